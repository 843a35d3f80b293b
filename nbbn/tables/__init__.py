"""Tables as people have them: text files and Parquet, read, described, and made numbers of.

`dialect` finds out how a text file is written, `reading` gives any table's columns a piece at a
time, `cells` says what stands in them. `survey` looks through a table once and makes its
`description`: what each column holds and how it becomes columns of numbers. `moments` are the
means and deviations of these, `standard` puts them into a network's first kernel, and `stored`
keeps all of it in a model's file.
"""
