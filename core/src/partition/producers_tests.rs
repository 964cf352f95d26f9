//! Claims about the producers' table.
