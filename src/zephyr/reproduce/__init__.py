"""The paper's experiments, at the scale that can be afforded, its numbers beside ours.

preset     how large everything is, and why; one YAML file each
data       which rows are learnt, which are measured on
base       a language model from nothing, where none is given
graph      a model is named by what was done to the base, so that two experiments that need it share it
work       one step: an artifact that is recognised by its key
scores     what a model says of held-out rows
compare    differences between models, over prompts and over trainings
findings   F1 to F8: confirmed, contradicted, undecided, or not examined
evidence   which models count: those that the settings in force make
results, tables, samples         what came out, as values
folder, page, pictures           what is written, and what of earlier commands stays
run        the order of all this
"""
