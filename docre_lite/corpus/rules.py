"""The relations of the embedded corpus, its composition rules, and the facts that follow from a set of facts.

A rule composes two facts over a bridge entity x into a third. The four patterns of its premises are the
four inference modes of DRE-MIR, where A is the head and B the tail of the conclusion:

1  first(A, x) and second(x, B)      2  first(A, x) and second(B, x)
3  first(x, A) and second(B, x)      4  first(x, A) and second(x, B)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from ..types import NA, Document, Relations, Triple

Fact = tuple[int, str, int]  # head, relation, tail

RELATIONS = Relations(
    (
        NA,
        *("located_in", "country", "shares_border", "place_of_birth", "place_of_death", "residence"),
        *("citizenship", "father", "mother", "child", "sibling", "spouse", "relative", "student_of", "collaborator"),
        *("employer", "educated_at", "member_of", "founded_by", "director_manager", "headquarters_location"),
        *("location_of_formation", "parent_organization", "author", "composer", "performer", "publisher"),
        *("record_label", "part_of", "based_on", "narrative_location"),
        *("date_of_birth", "publication_date", "inception"),
    ),
    {
        "located_in": "located in",
        "country": "country",
        "shares_border": "shares border with",
        "place_of_birth": "place of birth",
        "place_of_death": "place of death",
        "residence": "residence",
        "citizenship": "country of citizenship",
        "father": "father",
        "mother": "mother",
        "child": "child",
        "sibling": "sibling",
        "spouse": "spouse",
        "relative": "relative",
        "student_of": "student of",
        "collaborator": "worked together with",
        "employer": "employer",
        "educated_at": "educated at",
        "member_of": "member of",
        "founded_by": "founded by",
        "director_manager": "director or manager",
        "headquarters_location": "headquarters location",
        "location_of_formation": "location of formation",
        "parent_organization": "parent organisation",
        "author": "author",
        "composer": "composer",
        "performer": "performer",
        "publisher": "publisher",
        "record_label": "record label",
        "part_of": "part of",
        "based_on": "based on",
        "narrative_location": "narrative location",
        "date_of_birth": "date of birth",
        "publication_date": "publication date",
        "inception": "inception",
    },
)

# A statement of the left also states the right, with head and tail exchanged: no composition, so depth 0.
INVERSES = {
    "father": "child",
    "mother": "child",
    "sibling": "sibling",
    "spouse": "spouse",
    "relative": "relative",
    "collaborator": "collaborator",
    "shares_border": "shares_border",
}

# No thing has two of these in one document (worlds that violate this are discarded).
FUNCTIONAL = frozenset(
    "place_of_birth place_of_death citizenship country father mother spouse headquarters_location "
    "location_of_formation author composer performer publisher record_label date_of_birth publication_date "
    "inception based_on student_of".split()
)


@dataclass(frozen=True)
class Rule:
    """`first` and `second`, joined according to `mode`, give `conclusion`."""

    first: str
    second: str
    mode: int
    conclusion: str

    @property
    def name(self) -> str:
        return f"{self.pattern} => {self.conclusion}(A,B)"

    @property
    def pattern(self) -> str:
        a = "(A,x)" if self.mode in (1, 2) else "(x,A)"
        b = "(x,B)" if self.mode in (1, 4) else "(B,x)"
        return f"{self.first}{a} & {self.second}{b}"

    def premises(self, a: int, x: int, b: int) -> tuple[Fact, Fact]:
        """The two facts that make `conclusion` hold from entity `a` to entity `b` over the bridge `x`."""
        first = (a, self.first, x) if self.mode in (1, 2) else (x, self.first, a)
        return first, (x, self.second, b) if self.mode in (1, 4) else (b, self.second, x)


def _rules() -> tuple[Rule, ...]:
    rows = [
        (1, "located_in located_in located_in", "located_in country country", "place_of_birth country citizenship"),
        (1, "headquarters_location country country", "residence located_in residence"),
        (1, "narrative_location located_in narrative_location", "part_of part_of part_of"),
        (1, "parent_organization parent_organization parent_organization"),
        (1, "sibling father father", "sibling mother mother", "sibling sibling sibling"),
        (1, "father spouse mother", "mother spouse father", "father sibling relative", "mother sibling relative"),
        (1, "part_of author author", "part_of performer performer", "part_of publisher publisher"),
        (1, "part_of record_label record_label"),
        (2, "father father sibling", "mother mother sibling", "member_of member_of collaborator"),
        (2, "spouse father child", "spouse mother child"),
        (3, "father sibling child", "mother sibling child", "sibling father relative", "sibling mother relative"),
        (4, "child child sibling", "located_in country located_in", "located_in country country"),
        (4, "performer record_label record_label", "part_of author author", "part_of performer performer"),
        (4, "part_of publisher publisher", "part_of record_label record_label"),
        (4, "author composer collaborator", "composer author collaborator"),
    ]
    return tuple(Rule(*text.split()[:2], mode, text.split()[2]) for mode, *texts in rows for text in texts)


RULES = _rules()


@dataclass(frozen=True)
class Derived:
    """The derivation of a fact of the closure: the facts it was composed from, and the number of steps."""

    premises: tuple[Fact, ...] = ()
    depth: int = 0


def close(facts: Iterable[Fact]) -> dict[Fact, Derived]:
    """Everything that follows from `facts` by `RULES`, each with its shallowest derivation.

    Works for gold and for predicted facts; a given fact has depth 0.
    """
    known = {fact: Derived() for fact in facts}
    fresh = sorted(known)
    depth = 0
    while fresh:
        depth += 1
        found: dict[Fact, Derived] = {}
        for conclusion, premises in _compose(known, set(fresh)):
            if conclusion not in known:
                # of derivations of one depth, choose the smallest premises, to be deterministic
                old = found.get(conclusion)
                if old is None or premises < old.premises:
                    found[conclusion] = Derived(premises, depth)
        known.update(found)
        fresh = sorted(found)
    return known


def derivations(document: Document, triple: Triple) -> list[tuple[Rule, int]]:
    """Every rule and bridge entity by which the triple follows in one step from the document's gold triples."""
    facts = {(t.head, t.relation, t.tail) for t in document.triples}
    rules = [rule for rule in RULES if rule.conclusion == triple.relation]
    return [
        (rule, x)
        for x in range(len(document.entities))
        for rule in rules
        if facts.issuperset(rule.premises(triple.head, x, triple.tail))
    ]


def _compose(known, fresh) -> Iterable[tuple[Fact, tuple[Fact, Fact]]]:
    """Every application of a rule that uses at least one fresh fact."""
    by_head, by_tail, present = defaultdict(list), defaultdict(list), defaultdict(list)
    for head, relation, tail in known:
        by_head[relation, head].append(tail)
        by_tail[relation, tail].append(head)
        present[relation].append((head, tail))
    for rule in RULES:
        if rule.first not in present or rule.second not in present:
            continue
        a_is_head, x_is_head = rule.mode in (1, 2), rule.mode in (1, 4)
        for head, tail in present[rule.first]:
            a, x = (head, tail) if a_is_head else (tail, head)
            for b in (by_head if x_is_head else by_tail)[rule.second, x]:
                if a == b:
                    continue
                first, second = rule.premises(a, x, b)
                if first in fresh or second in fresh:
                    yield (a, rule.conclusion, b), (first, second)
