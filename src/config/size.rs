//! Sizes: a whole number and a unit, as in `25 MiB`.

const UNITS: [(&str, u64); 5] =
    [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];

/// What a size looks like, for errors.
pub const FORM: &str = "write a whole number and B, KiB, MiB, GiB or TiB, as in \"25 MiB\"";

/// Reads a size in octets.
pub fn parse(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(digits)?;
    let factor = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit.trim()))?.1;
    // Above what the store and every API can count, a size is a mistake.
    number.parse::<u64>().ok()?.checked_mul(factor).filter(|n| i64::try_from(*n).is_ok())
}

/// Writes a size in the largest unit that divides it.
pub fn format(octets: u64) -> String {
    let (name, factor) =
        UNITS.iter().rev().find(|(_, f)| octets >= *f && octets.is_multiple_of(*f)).unwrap_or(&("B", 1));
    format!("{} {name}", octets / factor)
}

/// Writes a size for people: whole units rounded down, of which there are at least two where that is possible.
pub fn rough(octets: u64) -> String {
    let (name, factor) = UNITS.iter().rev().find(|(_, f)| octets / f >= 2).unwrap_or(&("B", 1));
    format!("{} {name}", octets / factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_a_number_and_a_unit() {
        for (text, want) in [
            ("25 MiB", Some(25 << 20)),
            ("64KiB", Some(64 << 10)),
            ("1 gib", Some(1 << 30)),
            ("0 B", Some(0)),
            ("12", None),
            ("MiB", None),
            ("", None),
            ("-1 MiB", None),
            ("1.5 MiB", None),
            ("25 MB", None),
            ("99999999999999999999 B", None),
            ("9999999999 TiB", None),
        ] {
            assert_eq!(parse(text), want, "{text:?}");
        }
    }

    #[test]
    fn a_written_size_reads_back() {
        for n in [0, 1, 1000, 1 << 10, 25 << 20, 1 << 40] {
            assert_eq!(parse(&format(n)), Some(n));
        }
        assert_eq!(format(25 << 20), "25 MiB");
    }

    #[test]
    fn a_rough_size_is_short_and_never_too_large() {
        for (octets, want) in [
            (0, "0 B"),
            (2047, "2047 B"),
            (2048, "2 KiB"),
            ((49 << 30) + 12_345, "49 GiB"),
            ((2 << 30) - 1, "2047 MiB"),
            (u64::MAX, "16777215 TiB"),
        ] {
            assert_eq!(rough(octets), want);
        }
    }
}
