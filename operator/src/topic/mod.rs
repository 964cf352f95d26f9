//! Topics of one Cluster, in phases: who has which name ([`claims`], dereference and validate), what is wished ([`desire`],
//! build), finalizers ([`finalizer`], apply), and what is told ([`status`]).

pub mod claims;
pub mod desire;
pub mod finalizer;
pub mod status;

#[cfg(test)]
pub(crate) mod fixture;
