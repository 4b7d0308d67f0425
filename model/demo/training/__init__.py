"""The recipe that trains the demo: songs, codec, model, judge; one command a stage.

    python -m model.demo.training --help

A folder for each stage: `music` composes and renders, `codec` trains and encodes, `edits` trains language model,
adapter and text side and exports them, `judge` scores a bundle. See README.md for the order, the hours and the figures.
"""
