//! The time of a line, UTC: RFC 3339 with milliseconds, and as web servers have always written it.

use std::time::{SystemTime, UNIX_EPOCH};

/// A time in its parts. One before 1970 is its beginning.
struct Civil {
    year: u64,
    month: u64,
    day: u64,
    hour: u64,
    minute: u64,
    second: u64,
    millis: u64,
}

impl From<SystemTime> for Civil {
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
        let (year, month, day) = civil(days);
        Self {
            year,
            month,
            day,
            hour: second / 3600,
            minute: second / 60 % 60,
            second: second % 60,
            millis: since.subsec_millis().into(),
        }
    }
}

/// `2024-02-29T12:34:56.789Z`.
pub(crate) fn write_rfc3339(out: &mut String, time: SystemTime) {
    let at = Civil::from(time);
    // All at once: piece by piece takes four times as long. The format knows no later year.
    let mut text = *b"0000-00-00T00:00:00.000Z";
    for (number, last, digits) in [
        (at.year.min(9999), 3, 4),
        (at.month, 6, 2),
        (at.day, 9, 2),
        (at.hour, 12, 2),
        (at.minute, 15, 2),
        (at.second, 18, 2),
        (at.millis, 22, 3),
    ] {
        let mut rest = number;
        for place in text.iter_mut().take(last + 1).rev().take(digits) {
            *place = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
    }
    // Only digits were written.
    out.push_str(std::str::from_utf8(&text).unwrap_or_default());
}

/// `29/Feb/2024:12:34:56 +0000`.
pub(super) fn write_common(out: &mut String, time: SystemTime) {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let at = Civil::from(time);
    let month = MONTHS.get(at.month.saturating_sub(1) as usize);
    padded(out, at.day, 2);
    out.push('/');
    out.push_str(month.unwrap_or(&""));
    out.push('/');
    for (number, digits, then) in [
        (at.year, 4, ":"),
        (at.hour, 2, ":"),
        (at.minute, 2, ":"),
        (at.second, 2, " +0000"),
    ] {
        padded(out, number, digits);
        out.push_str(then);
    }
}

/// A number with zeros before it, without the machinery of `fmt`: a line has many of them.
pub(super) fn padded(out: &mut String, number: u64, digits: usize) {
    let mut buffer = [b'0'; 20];
    let (mut at, mut rest) = (buffer.len(), number);
    while rest > 0 && at > 0 {
        at -= 1;
        buffer[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    let from = at.min(buffer.len().saturating_sub(digits));
    // Only digits were written.
    out.push_str(std::str::from_utf8(&buffer[from..]).unwrap_or_default());
}

/// The date of a day since 1970-01-01 (Hinnant's algorithm: years that begin in March, eras of 400).
const fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400 + (month <= 2) as u64;
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times() {
        for (millis, text, common) in [
            (0, "1970-01-01T00:00:00.000Z", "01/Jan/1970:00:00:00 +0000"),
            (
                951_782_400_000,
                "2000-02-29T00:00:00.000Z",
                "29/Feb/2000:00:00:00 +0000",
            ),
            (
                951_868_799_999,
                "2000-02-29T23:59:59.999Z",
                "29/Feb/2000:23:59:59 +0000",
            ),
            (
                1_709_251_199_001,
                "2024-02-29T23:59:59.001Z",
                "29/Feb/2024:23:59:59 +0000",
            ),
            (
                1_735_689_600_000,
                "2025-01-01T00:00:00.000Z",
                "01/Jan/2025:00:00:00 +0000",
            ),
            (
                4_107_542_400_000,
                "2100-03-01T00:00:00.000Z",
                "01/Mar/2100:00:00:00 +0000",
            ),
            (
                253_402_300_799_000,
                "9999-12-31T23:59:59.000Z",
                "31/Dec/9999:23:59:59 +0000",
            ),
        ] {
            let time = UNIX_EPOCH + Duration::from_millis(millis);
            let (mut out, mut clf) = (String::new(), String::new());
            write_rfc3339(&mut out, time);
            write_common(&mut clf, time);
            assert_eq!((&*out, &*clf), (text, common));
        }
        let mut out = String::new();
        write_rfc3339(&mut out, UNIX_EPOCH - Duration::from_secs(1));
        assert_eq!(out, "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn numbers() {
        for (number, digits, text) in [
            (0, 1, "0"),
            (0, 3, "000"),
            (7, 1, "7"),
            (7, 3, "007"),
            (1234, 3, "1234"),
            (u64::MAX, 1, "18446744073709551615"),
        ] {
            let mut out = String::new();
            padded(&mut out, number, digits);
            assert_eq!(out, text);
        }
    }
}
