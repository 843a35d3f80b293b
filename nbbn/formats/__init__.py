"""Files of models, read and written; they know networks, and no model around one."""
