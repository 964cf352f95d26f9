//! Claims about a broker.
