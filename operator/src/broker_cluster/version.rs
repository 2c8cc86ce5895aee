//! Versions of the engine as numbers. Pure.

use std::fmt;

/// Three numbers of a release, compared as numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32, pub u32);

impl Version {
    /// The version that a text names, `5.5.0` or `5.5.0-more`; `None` for what is none.
    #[must_use]
    pub fn of(text: &str) -> Option<Self> {
        let mut numbers = text.split(['.', '-']).map(|n| n.parse().ok());
        Some(Self(numbers.next()??, numbers.next()??, numbers.next()??))
    }
}

/// The oldest version that a status names: `5.4.0` of `5.4.0 → 5.5.0`.
#[must_use]
pub fn oldest(status: &str) -> Option<&str> {
    status.split(" → ").filter_map(|text| Some((Version::of(text)?, text))).min().map(|(_, text)| text)
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(Version::of("5.10.0") > Version::of("5.9.9"));
        assert_eq!(Version::of("5.5.0-patched"), Some(Version(5, 5, 0)));
        assert_eq!((Version::of("5.5"), Version::of(""), Version::of("five")), (None, None, None));
        assert_eq!(Version(5, 4, 0).to_string(), "5.4.0");
        assert_eq!((oldest("5.10.0 → 5.9.0"), oldest("5.5.0"), oldest("")), (Some("5.9.0"), Some("5.5.0"), None));
    }
}
