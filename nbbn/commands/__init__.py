"""The commands of the command line, one a file (`demo` a folder).

What they share: `arguments`, `errors`, `files`, `progress`; `models` opens model files; `tables`,
`training_table` and `parquet` read tables, `writers` writes them.
"""
