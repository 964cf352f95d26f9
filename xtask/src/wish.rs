//! What is wished of a figure, and whether it is so.

/// At least or at most so much.
pub(crate) enum Wish {
    AtLeast(f64),
    AtMost(f64),
}

impl Wish {
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::AtLeast(ratio) => format!("≥ {ratio}"),
            Self::AtMost(ratio) => format!("≤ {ratio}"),
        }
    }

    pub(crate) fn is_met(&self, ratio: f64) -> bool {
        match self {
            Self::AtLeast(least) => ratio >= *least,
            Self::AtMost(most) => ratio <= *most,
        }
    }
}
