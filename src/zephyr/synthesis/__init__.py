"""Dialogues that teachers write: self-instruct as in the paper's section 3, and UltraChat's three sectors.

texts      what teachers are told, and the lists of topics: text files that a user can copy and edit
grammar    how lists and single texts are read out of replies
steps      many small conversations with teachers, led side by side, each written down as if it were alone
openings   first turns: of questions about the world, of writing, of work on given texts, of refined instructions
near       first turns that are too much alike
talk       one teacher plays the user, the other answers; when it ends, and what is no conversation
aside      what comes to nothing, and how much of it may
measures   what came of it, in figures
rows       how a dialogue is written
"""
