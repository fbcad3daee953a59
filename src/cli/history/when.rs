//! Parses points in time: `2 hours ago`, `yesterday`, `13:30`, `2026-11-24 13:30`.

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ToSpan, ZonedDateTime};

const PAST: &str = "write one like \"2 hours ago\", yesterday, 13:30, \"2026-11-24 13:30\" or 2026-11-24T13:30:00Z";
const FUTURE: &str = "write one like \"in 2 hours\", tomorrow, 13:30, \"2026-11-24 13:30\" or 2026-11-24T13:30:00Z";

/// A time in the past. A plain duration such as `2h` means that long ago.
pub(crate) fn past(text: &str) -> Result<Timestamp, String> {
    parse(text, &ZonedDateTime::now(), PAST, |now, span| now.checked_sub(span))
}

/// A recorded time in the local time zone.
pub(crate) fn local(time: &str) -> String {
    let zoned = time.parse::<Timestamp>().map(|time| time.to_zoned_datetime(TimeZone::system()));
    zoned.map_or_else(|_| time.to_owned(), |time| time.strftime("%F %T").to_string())
}

/// A time in the future. A plain duration such as `2h` or `in 2 hours` means that long from now; a time of day, the next one.
pub(crate) fn future(text: &str) -> Result<Timestamp, String> {
    after(text, &ZonedDateTime::now())
}

fn after(text: &str, now: &ZonedDateTime) -> Result<Timestamp, String> {
    let text = text.trim();
    let time = parse(text.strip_prefix("in ").unwrap_or(text), now, FUTURE, |now, span| now.checked_add(span))?;
    let tomorrow = || time_of_day(text).zip(now.date().tomorrow().ok()).map(|(time, date)| date.to_datetime(time));
    let tomorrow = || tomorrow()?.to_zoned_datetime(TimeZone::system()).ok();
    match time > now.timestamp() {
        true => Ok(time),
        false => tomorrow().map(|time| time.timestamp()).ok_or_else(|| format!("{text:?} is not in the future")),
    }
}

fn parse(
    text: &str,
    now: &ZonedDateTime,
    examples: &str,
    apply: impl Fn(&ZonedDateTime, Span) -> Result<ZonedDateTime, jiff::Error>,
) -> Result<Timestamp, String> {
    let text = text.trim();
    let wrong = || format!("{text:?} is not a time; {examples}");
    let days = |days: i64| {
        let day = now.checked_add(days.days()).and_then(|day| day.start_of_day());
        day.map(|day| day.timestamp()).map_err(|error| error.to_string())
    };
    match text {
        "now" => return Ok(now.timestamp()),
        "today" => return days(0),
        "yesterday" => return days(-1),
        "tomorrow" => return days(1),
        _ => {}
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    if let Some(local) = civil(text, now.date()) {
        let local = local.to_zoned_datetime(TimeZone::system());
        return local.map(|time| time.timestamp()).map_err(|error| error.to_string());
    }
    let span: Span = text.parse().map_err(|_| wrong())?;
    // "ago" makes it negative.
    let moved = if span.is_negative() { now.checked_add(span) } else { apply(now, span) };
    moved.map(|time| time.timestamp()).map_err(|_| wrong())
}

fn civil(text: &str, today: Date) -> Option<DateTime> {
    time_of_day(text).map(|time| today.to_datetime(time)).or_else(|| text.parse::<DateTime>().ok())
}

fn time_of_day(text: &str) -> Option<Time> {
    text.parse::<Time>().ok().filter(|_| text.contains(':') && !text.contains('-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> ZonedDateTime {
        let noon: Result<DateTime, _> = "2026-11-24 12:00".parse();
        noon.and_then(|noon| noon.to_zoned_datetime(TimeZone::system())).unwrap_or_default()
    }

    fn of(text: &str) -> String {
        let time = parse(text, &now(), PAST, |now, span| now.checked_sub(span));
        time.map_or_else(|why| why, |time| time.to_zoned_datetime(TimeZone::system()).strftime("%F %T").to_string())
    }

    #[test]
    fn times_are_local_and_durations_are_counted_from_now() {
        for (text, expected) in [
            ("2 hours ago", "2026-11-24 10:00:00"),
            ("90min", "2026-11-24 10:30:00"),
            ("1h 30m ago", "2026-11-24 10:30:00"),
            ("3 days ago", "2026-11-21 12:00:00"),
            ("now", "2026-11-24 12:00:00"),
            ("today", "2026-11-24 00:00:00"),
            ("yesterday", "2026-11-23 00:00:00"),
            ("tomorrow", "2026-11-25 00:00:00"),
            ("11:30", "2026-11-24 11:30:00"),
            ("2026-11-20", "2026-11-20 00:00:00"),
            ("2026-11-20 08:15", "2026-11-20 08:15:00"),
            ("2026-11-20T08:15:30", "2026-11-20 08:15:30"),
        ] {
            assert_eq!(of(text), expected, "{text}");
        }
        for text in ["", "soon", "25:00", "2026-13-01", "-", "hours ago"] {
            assert!(of(text).contains("is not a time; write one like"), "{text}: {}", of(text));
        }
    }

    #[test]
    fn a_time_with_its_offset_is_taken_as_it_is() {
        let time = parse("2026-11-24T13:30:00Z", &now(), PAST, |now, span| now.checked_sub(span));
        assert_eq!(time.map(|time| time.to_string()), Ok("2026-11-24T13:30:00Z".to_owned()));
        assert!(future("2020-01-01").is_err_and(|why| why.contains("is not in the future")));
        assert!(future("in 2 hours").is_ok() && future("2h").is_ok());
    }

    #[test]
    fn a_time_of_day_that_is_over_is_tomorrows() {
        let until = |text: &str| {
            let time = after(text, &now()).map(|time| time.to_zoned_datetime(TimeZone::system()));
            time.map_or_else(|why| why, |time| time.strftime("%F %T").to_string())
        };
        assert_eq!(until("13:30"), "2026-11-24 13:30:00");
        assert_eq!(until(" 07:00 "), "2026-11-25 07:00:00");
        assert_eq!(until("in 90min"), "2026-11-24 13:30:00");
        assert!(until("2026-11-24 07:00").contains("is not in the future"));
        assert!(until("tomorow").contains("write one like \"in 2 hours\", tomorrow"), "{}", until("tomorow"));
    }
}
