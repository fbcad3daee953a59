use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;

use super::*;

fn record(directory: &tempfile::TempDir) -> Record {
    Record::at(directory.path().join("log/history.jsonl")).caller("test")
}

fn change(number: usize) -> RecordedChange {
    RecordedChange { reason: Some(number.to_string()), ..RecordedChange::now("disabled", Path::new("/hook"), "root") }
}

fn numbers(entries: &mut Entries) -> Vec<usize> {
    let number = |entry| match entry {
        Recorded::Change(change) => change.reason.and_then(|reason| reason.parse().ok()),
        Recorded::Event(_) => None,
    };
    entries.filter_map(number).collect()
}

#[test]
fn entries_come_back_in_order_and_only_the_owner_may_read_the_file() -> io::Result<()> {
    let directory = tempfile::tempdir()?;
    let record = record(&directory);
    assert_eq!(numbers(&mut record.entries()), [0; 0]);
    for number in 0..3 {
        record.change(&change(number))?;
    }
    let mut entries = record.entries();
    assert_eq!(numbers(&mut entries), [0, 1, 2]);
    record.change(&change(3))?;
    assert_eq!((numbers(&mut entries), entries.torn()), (vec![3], 0));
    assert_eq!(fs::metadata(record.path())?.permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(directory.path().join("log"))?.permissions().mode() & 0o777, 0o700);
    Ok(())
}

#[test]
fn a_full_file_is_rotated_and_a_reader_follows() -> io::Result<()> {
    let directory = tempfile::tempdir()?;
    let line = entry::line(&change(10)).len() as u64;
    let record = record(&directory).max_size(3 * line).keep(2);
    let mut reader = record.entries();
    let mut followed = Vec::new();
    for number in 10..31 {
        record.change(&change(number))?;
        if number % 2 == 0 {
            followed.extend(numbers(&mut reader));
        }
    }
    assert_eq!(followed, (10..31).collect::<Vec<_>>());
    // Three in each of the two old files, and what the newest has.
    assert_eq!(numbers(&mut record.entries()), (22..31).collect::<Vec<_>>());
    assert_eq!(fs::read_dir(directory.path().join("log"))?.count(), 3);
    Ok(())
}

/// Another process rotates, and began with a file that was replaced since then.
#[test]
fn two_processes_never_rotate_at_once() -> io::Result<()> {
    let directory = tempfile::tempdir()?;
    let record = record(&directory).max_size(1);
    record.change(&change(1))?;
    let other = File::open(directory.path().join("log"))?;
    other.lock()?;
    fs::rename(record.path(), directory.path().join("moved"))?;
    record.change(&change(2))?;
    record.change(&change(3))?;
    assert_eq!(fs::read_dir(directory.path().join("log"))?.count(), 1, "it goes on in the full file");
    assert_eq!(numbers(&mut record.entries()), [2, 3]);
    drop(other);
    record.change(&change(4))?;
    assert_eq!(fs::read_dir(directory.path().join("log"))?.count(), 2);
    assert_eq!(numbers(&mut record.entries()), [2, 3, 4]);
    Ok(())
}

#[test]
fn a_reader_follows_a_file_that_somebody_else_replaced() -> io::Result<()> {
    let directory = tempfile::tempdir()?;
    let record = record(&directory);
    record.change(&change(1))?;
    let mut reader = record.entries();
    assert_eq!(numbers(&mut reader), [1]);
    record.change(&change(2))?;
    fs::rename(record.path(), directory.path().join("moved"))?;
    record.change(&change(3))?;
    assert_eq!(numbers(&mut reader), [2, 3]);
    Ok(())
}

/// At every byte: a process was killed in the middle of its write, and others went on.
#[test]
fn a_torn_line_is_never_an_entry_and_takes_no_other_with_it() -> io::Result<()> {
    let directory = tempfile::tempdir()?;
    let torn = entry::line(&change(7));
    for length in 0..torn.len() {
        let record = Record::at(directory.path().join(length.to_string()));
        record.change(&change(1))?;
        OpenOptions::new().append(true).open(record.path())?.write_all(&torn[..length])?;
        record.change(&change(2))?;
        assert_eq!(numbers(&mut record.entries()), if length + 1 < torn.len() { vec![1, 2] } else { vec![1, 7, 2] });
        // The next writer looked before the torn line was there, so its own follows on the same line.
        OpenOptions::new()
            .append(true)
            .open(record.path())?
            .write_all(&[&torn[..length], &entry::line(&change(3))].concat())?;
        let mut entries = record.entries();
        assert_eq!(numbers(&mut entries).last(), Some(&3), "{length}");
        assert_eq!(
            entries.torn(),
            if length == 0 {
                0
            } else if length + 1 < torn.len() {
                2
            } else {
                1
            },
            "{length}"
        );
    }
    Ok(())
}

#[test]
fn a_file_without_a_line_is_no_record_and_no_wait() -> io::Result<()> {
    let directory = tempfile::tempdir()?;
    let record = record(&directory);
    fs::create_dir(directory.path().join("log"))?;
    nix::unistd::mkfifo(record.path(), nix::sys::stat::Mode::S_IRWXU)?;
    assert!(record.change(&change(1)).is_err());
    assert_eq!(numbers(&mut record.entries()), [0; 0]);
    fs::remove_file(record.path())?;
    std::os::unix::fs::symlink("/dev/full", record.path())?;
    assert!(record.change(&change(1)).is_err(), "a link is not followed");
    Ok(())
}
