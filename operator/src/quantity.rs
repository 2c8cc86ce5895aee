//! Kubernetes quantities as exact numbers.

/// The value of a quantity in thousandths (`1` is 1000, `500m` is 500), or `None` where the text is none or too large.
/// Notation: <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>.
#[must_use]
pub fn parse(text: &str) -> Option<i128> {
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || whole.len() > 18 || fraction.len() > 12 {
        return None;
    }
    let scale = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let milli = match suffix {
        "m" => 1,
        "" => 1000,
        "k" => 1_000_000,
        "M" => 1_000_000_000,
        "G" => 1_000_000_000_000,
        "T" => 1_000_000_000_000_000,
        "P" => 1_000_000_000_000_000_000,
        "Ki" => 1000 << 10,
        "Mi" => 1000 << 20,
        "Gi" => 1000 << 30,
        "Ti" => 1000_i128 << 40,
        "Pi" => 1000_i128 << 50,
        exponent => {
            let n: u32 = exponent.strip_prefix(['e', 'E'])?.parse().ok().filter(|n| *n <= 18)?;
            1000 * 10_i128.pow(n)
        }
    };
    let value = digits.checked_mul(milli)?;
    // Kubernetes rounds up what is finer than a thousandth.
    Some((value + scale - 1) / scale)
}

/// The value of a quantity of bytes in MiB, rounded down.
#[must_use]
pub fn mebibytes(text: &str) -> Option<i64> {
    parse(text).and_then(|milli| i64::try_from(milli / 1000 / (1 << 20)).ok())
}

/// `500ms`, `10s`, `5m`, `2h` in milliseconds. The schema lets nothing else through; 0 for what is none.
#[must_use]
pub fn milliseconds(text: &str) -> i64 {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let factor = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => 0,
    };
    number.parse::<i64>().unwrap_or(0).saturating_mul(factor)
}

/// Milliseconds in the largest unit that fits, `5m` rather than `300s`; `None` for what the schema takes for no interval.
#[must_use]
pub fn interval(ms: i64) -> Option<String> {
    let (factor, unit) =
        [(3_600_000, "h"), (60_000, "m"), (1_000, "s"), (1, "ms")].into_iter().find(|(f, _)| ms % f == 0)?;
    (ms > 0 && ms / factor < 1_000_000_000).then(|| format!("{}{unit}", ms / factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_written_in_the_largest_unit_that_fits() {
        for (ms, text) in [(500, "500ms"), (10_000, "10s"), (90_000, "90s"), (300_000, "5m"), (7_200_000, "2h")] {
            assert_eq!(interval(ms).as_deref(), Some(text));
        }
        assert_eq!((interval(0), interval(-1)), (None, None));
    }

    #[test]
    fn every_notation_of_a_quantity_is_read() {
        for (text, milli) in [
            ("1", 1000),
            ("500m", 500),
            ("0.5", 500),
            (".5", 500),
            ("1Ki", 1_024_000),
            ("2e3", 2_000_000),
            ("1.5Gi", 1_610_612_736_000),
            ("0.0001", 1),
        ] {
            assert_eq!(parse(text), Some(milli), "{text}");
        }
        for text in ["", ".", "1.2.3", "Gi", "1x", "-1", "1e99", "99999999999999999999"] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(mebibytes("1.5Gi"), Some(1536));
    }
}
