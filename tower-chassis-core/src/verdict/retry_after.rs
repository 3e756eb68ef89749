//! `Retry-After`: seconds or a date; and `RateLimit`, of one who does not say that.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, header};

/// What a `Retry-After` says, by the clock of the service where it tells it, else by `wall`.
pub(super) fn retry_after(text: &str, headers: &HeaderMap, wall: SystemTime) -> Option<Duration> {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        // More digits than a u64 has are for ever.
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let until = http_date(text)?;
    // Ours may be wrong.
    let date = headers
        .get(header::DATE)
        .and_then(|value| http_date(value.to_str().ok()?.trim()));
    let now = date.unwrap_or(wall);
    Some(until.duration_since(now).unwrap_or_default())
}

/// What a `RateLimit` (draft-ietf-httpapi-ratelimit-headers) says: when the last one of those quotas is filled again of which
/// nothing is left, as in `"burst";r=0;t=2, "daily";r=70`.
pub(super) fn refilled_after(text: &str) -> Option<Duration> {
    let quotas = text.split(',').filter_map(|quota| {
        let mut params = quota.split(';').skip(1);
        let mut left = None;
        let mut after = None;
        params.try_for_each(|param| {
            // One without a value says nothing of these two, nor does the rest of a name with a semicolon.
            let (name, value) = param.split_once('=').unwrap_or((param, ""));
            let value = number(value.trim(), u64::MAX);
            match name.trim() {
                "r" => left = Some(value?),
                "t" => after = Some(value?),
                _ => {}
            }
            Some(())
        })?;
        // Filled by now, to the second: no reason to come back without a backoff.
        after.filter(|after| left == Some(0) && *after > 0)
    });
    quotas.max().map(Duration::from_secs)
}

/// Reads the three forms of a date that RFC 9110, section 5.6.7, asks recipients to accept.
fn http_date(text: &str) -> Option<SystemTime> {
    let mut parts = text.split([' ', ',', '-']).filter(|part| !part.is_empty());
    let mut next = || parts.next();
    let _weekday = next()?;
    let first = next()?;
    let (day, month, year, time) = if first.as_bytes()[0].is_ascii_digit() {
        // Sun, 06 Nov 1994 08:49:37 GMT, or Sunday, 06-Nov-94 08:49:37 GMT
        let (month, year, time) = (next()?, next()?, next()?);
        if next()? != "GMT" {
            return None;
        }
        (first, month, year, time)
    } else {
        // Sun Nov  6 08:49:37 1994
        let (day, time, year) = (next()?, next()?, next()?);
        (day, first, year, time)
    };
    if next().is_some() {
        return None;
    }
    let months = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let month = months.iter().position(|name| *name == month)? as u64 + 1;
    let day = number(day, 31).filter(|day| *day > 0)?;
    let year = match number(year, 9_999)? {
        year if year >= 1970 => year,
        year @ 0..=69 => 2000 + year,
        year @ 70..=99 => 1900 + year,
        _ => return None,
    };
    let mut clock = time.split(':');
    let mut unit = |most| number(clock.next()?, most);
    let (hour, minute, second) = (unit(23)?, unit(59)?, unit(60)?);
    if clock.next().is_some() {
        return None;
    }
    let seconds = ((days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second;
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

fn number(text: &str, most: u64) -> Option<u64> {
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|number| *number <= most)
}

/// Days from 1970-01-01 to a date of the Gregorian calendar, from 1970 on. The year begins in March, so that the
/// leap day is its last.
const fn days(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month = (month + 9) % 12;
    let before = year * 365 + year / 4 - year / 100 + year / 400;
    before + (month * 153 + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: u64 = 784_111_777;

    fn said(value: &str) -> Option<Duration> {
        let wall = UNIX_EPOCH + Duration::from_secs(AT - 10);
        retry_after(value, &HeaderMap::new(), wall)
    }

    #[test]
    fn retry_after_in_every_form() {
        let secs = |secs| Some(Duration::from_secs(secs));
        for (value, wait) in [
            ("0", secs(0)),
            ("7", secs(7)),
            ("99999999999999999999999", secs(u64::MAX)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", secs(10)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", secs(10)),
            ("Sun Nov  6 08:49:37 1994", secs(10)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", secs(0)),
            ("-1", None),
            ("1.5", None),
            ("", None),
            ("soon", None),
            ("Sun, 06 Nov 1994 08:49:37 CET", None),
            ("Sun, 32 Nov 1994 08:49:37 GMT", None),
            ("Sun, 06 Nov 1994 24:49:37 GMT", None),
            ("Sun, 06 Nov 1994 08:49 GMT", None),
            ("Sun, 06 Nov 1994 08:49:37 GMT x", None),
        ] {
            assert_eq!(said(value), wait, "{value}");
        }
    }

    #[test]
    fn quotas_of_which_nothing_is_left() {
        let secs = |secs| Some(Duration::from_secs(secs));
        for (value, wait) in [
            (r#""default";r=0;t=7"#, secs(7)),
            (r#""default"; t=7 ; r=0"#, secs(7)),
            (r#""default";r=1;t=7"#, None),
            (r#""default";r=0"#, None),
            (r#""default";t=7"#, None),
            (r#""default";r=0;t=-7"#, None),
            (r#""default";r=0;t=0"#, None),
            (r#""burst";r=0;t=0, "hourly";r=0;t=90"#, secs(90)),
            (r#""default";r=-0;t=7"#, None),
            (r#""default";r=0;t=7;pk=:abc=:"#, secs(7)),
            // A parameter without a value is true (RFC 9651), and a name may be any string.
            (r#""default";shared;r=0;t=7"#, secs(7)),
            (r#""per;tenant";r=0;t=7"#, secs(7)),
            (
                r#""burst";r=0;t=2, "hourly";r=0;t=90, "daily";r=5;t=9999"#,
                secs(90),
            ),
            ("0", None),
            ("r=0;t=7", None),
            ("", None),
        ] {
            assert_eq!(refilled_after(value), wait, "{value}");
        }
    }

    #[test]
    fn the_clock_of_the_service_counts_where_it_is_told() {
        let mut headers = HeaderMap::new();
        headers.insert("date", "Sun, 06 Nov 1994 08:49:34 GMT".parse().unwrap());
        let wait = retry_after("Sun, 06 Nov 1994 08:49:37 GMT", &headers, SystemTime::now());
        assert_eq!(wait, Some(Duration::from_secs(3)));
    }

    #[test]
    fn days_agree_with_known_dates() {
        for (date, secs) in [
            ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
            ("Tue, 29 Feb 2000 00:00:00 GMT", 951_782_400),
            ("Fri, 01 Mar 2024 00:00:00 GMT", 1_709_251_200),
            ("Fri, 31 Dec 2100 23:59:59 GMT", 4_133_980_799),
        ] {
            let at = UNIX_EPOCH + Duration::from_secs(secs);
            assert_eq!(http_date(date), Some(at), "{date}");
        }
    }
}
