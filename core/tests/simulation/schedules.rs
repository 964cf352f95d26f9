//! The schedules that broke weaker texts of the protocol, each step by step.
