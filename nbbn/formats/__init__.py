"""Files of nbbn and of other programs, a module or a folder each; all of them speak `Network`."""
