"""Dialogues from anywhere, made into dialogues to learn from: read, looked at one by one, compared with each other, chosen, divided.

Three passes over the data, each in pieces that any number of processes work at:

1. `index` looks at every row by itself and writes down what is needed to compare it with others: some hundred bytes a row.
2. `resolve` compares: duplicates, near-duplicates, splits, selection. It sees hashes; texts only of what may be near-duplicates.
3. `write` reads the data again and writes the rows that stay, and those that do not with their reasons.

Whatever is finished is kept in files of its own, written aside and renamed, so that a run that was killed goes on and ends with the same
bytes. How the data is cut into pieces decides nothing: `where` a row stood and what it says is all that counts.
"""

from zephyr.curation.run import curate as curate
