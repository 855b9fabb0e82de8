// On a phone long code starts folded to its first lines; what scrolls sideways can be reached by keyboard.
(() => {
  const phone = matchMedia("(max-width: 600px)");
  let done = false;

  const fold = (block) => {
    const pre = block.querySelector("pre"), lines = pre.textContent.trimEnd().split("\n").length;
    if (lines <= 4) return;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "docre-unfold";
    const set = (open) => {
      block.classList.toggle("docre-folded", !open);
      button.setAttribute("aria-expanded", open);
      button.textContent = open ? "Fold the code" : `Show all ${lines} lines`;
    };
    button.addEventListener("click", () => {
      set(button.getAttribute("aria-expanded") !== "true");
      button.scrollIntoView({ block: "nearest" });
    });
    block.after(button);
    set(false);
  };

  const start = () => {
    if (done || !phone.matches) return;
    done = true;
    document.querySelectorAll(".bd-article .cell :is(.cell_input, .cell_output) div.highlight").forEach(fold);
    for (const box of document.querySelectorAll("picture.docre-wide")) {
      if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
    }
  };
  start();
  phone.addEventListener("change", start);
})();
