"""What measures: plans of trainings, tables of their rows, speed, probes. Nothing else imports it."""
