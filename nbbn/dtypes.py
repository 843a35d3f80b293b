"""Facts on dtypes that rooms without a compiler need as well as those with one."""

# Rows of these are read as they are and converted batch by batch; others are converted as a whole.
SOURCE_DTYPES = (
    "float32", "float64", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64",
)  # fmt: skip
