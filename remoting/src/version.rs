//! Versions as clients report them: numbers of the engine's MQVersion.java.

/// The number of 4.0.0. From there on every patch has two, a snapshot's and its own, and every minor version ten patches (5.0.0 is 413, 5.5.0 is 513).
const V4_0_0: i32 = 213;

/// `5.3.1` for the number that a client reports, `5.3.1-SNAPSHOT` for a snapshot's; none before 4.0.0, whose numbers have no rule.
#[must_use]
pub fn version(number: i32) -> Option<String> {
    let distance = number.checked_sub(V4_0_0 - 1).filter(|d| *d >= 0)?;
    let patches = 400 + distance / 2;
    let snapshot = if distance % 2 == 0 { "-SNAPSHOT" } else { "" };
    Some(format!("{}.{}.{}{snapshot}", patches / 100, patches / 10 % 10, patches % 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_versions_from_4_0_0_on() {
        for (number, text) in
            [(213, "4.0.0"), (411, "4.9.9"), (413, "5.0.0"), (433, "5.1.0"), (513, "5.5.0"), (512, "5.5.0-SNAPSHOT")]
        {
            assert_eq!(version(number).as_deref(), Some(text));
        }
        for number in [i32::MIN, -1, 0, 211] {
            assert_eq!(version(number), None);
        }
    }
}
