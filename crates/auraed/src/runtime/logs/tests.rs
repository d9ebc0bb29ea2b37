use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::runtime::logs::{LineSplitter, MIN_CAPACITY};

const PATIENCE: Duration = Duration::from_secs(20);

/// All that a reader gets until its end: entries as `(channel, data, partial)`, and what it missed.
type Drained = (Vec<(Channel, Vec<u8>, bool)>, u64, u64);

fn drain(mut reader: Reader) -> Drained {
    let (mut entries, mut missed_entries, mut missed_bytes) = (Vec::new(), 0, 0);
    loop {
        match reader.step() {
            Step::Batch(batch) => {
                missed_entries += batch.missed_entries;
                missed_bytes += batch.missed_bytes;
                entries.extend(
                    batch
                        .entries
                        .into_iter()
                        .map(|entry| (entry.channel, entry.data.to_vec(), entry.partial)),
                );
            }
            Step::More => {}
            Step::Wait => panic!("a reader that does not follow waits"),
            Step::End => return (entries, missed_entries, missed_bytes),
        }
    }
}

fn texts(ring: &LogRing, options: ReaderOptions) -> Vec<String> {
    let (entries, ..) = drain(ring.reader(options));
    entries.into_iter().map(|(_, data, _)| String::from_utf8(data).unwrap()).collect()
}

fn ring_of(lines: &[&str]) -> LogRing {
    let ring = LogRing::new(MIN_CAPACITY);
    for line in lines {
        ring.push(Channel::Stdout, line.as_bytes(), false);
    }
    ring
}

#[test]
fn a_late_reader_gets_what_was_kept() {
    let ring = ring_of(&["a", "", "c"]);
    assert_eq!(texts(&ring, ReaderOptions::default()), ["a", "", "c"]);
}

#[test]
fn the_tail_is_the_last_lines() {
    let ring = ring_of(&["a", "b", "c"]);
    let tail = |count| texts(&ring, ReaderOptions { tail: Some(count), ..Default::default() });
    assert_eq!(tail(0), [""; 0]);
    assert_eq!(tail(1), ["c"]);
    assert_eq!(tail(2), ["b", "c"]);
    assert_eq!(tail(7), ["a", "b", "c"]);
    ring.push(Channel::Stdout, b"begun", true);
    assert_eq!(texts(&ring, ReaderOptions { tail: Some(2), ..Default::default() }), ["c", "begun"]);
}

#[test]
fn a_tail_counts_the_lines_of_its_channel() {
    let ring = LogRing::new(MIN_CAPACITY);
    for number in 0..10 {
        let channel = if number % 5 == 0 { Channel::Stderr } else { Channel::Stdout };
        ring.push(channel, number.to_string().as_bytes(), false);
    }
    let options =
        ReaderOptions { tail: Some(1), channel: Some(Channel::Stderr), ..Default::default() };
    assert_eq!(texts(&ring, options), ["5"]);
}

#[test]
fn a_tail_of_kept_lines_misses_nothing() {
    let ring = LogRing::new(MIN_CAPACITY);
    for number in 0..10_000 {
        ring.push(Channel::Stdout, format!("line {number}").as_bytes(), false);
    }
    let (entries, missed, _) =
        drain(ring.reader(ReaderOptions { tail: Some(3), ..Default::default() }));
    assert_eq!(missed, 0);
    let texts: Vec<_> = entries.iter().map(|(_, data, _)| data.as_slice()).collect();
    assert_eq!(texts, [b"line 9997".as_slice(), b"line 9998", b"line 9999"]);
}

#[test]
fn since_leaves_out_what_is_older_and_does_not_miss_it() {
    let ring = LogRing::new(MIN_CAPACITY);
    for number in 0..10_000 {
        ring.push_at(number, Channel::Stdout, number.to_string().as_bytes(), false);
    }
    let (entries, missed, _) =
        drain(ring.reader(ReaderOptions { since: Some(9_999), ..Default::default() }));
    assert_eq!((entries.len(), missed), (1, 0));
    let (_, missed, _) = drain(ring.reader(ReaderOptions { since: Some(1), ..Default::default() }));
    assert!(missed > 0, "what was dropped may have been wanted");
}

#[test]
fn a_line_longer_than_a_segment_is_kept_in_parts() {
    let ring = LogRing::new(MIN_CAPACITY);
    let line = vec![b'x'; 1000];
    ring.push(Channel::Stderr, &line, false);
    let (entries, ..) = drain(ring.reader(ReaderOptions::default()));
    let (last, parts) = entries.split_last().unwrap();
    assert!(parts.iter().all(|(_, _, partial)| *partial) && !last.2);
    assert_eq!(entries.iter().flat_map(|(_, data, _)| data.clone()).collect::<Vec<_>>(), line);
}

#[test]
fn an_idle_ring_costs_next_to_nothing() {
    let ring = LogRing::new(1 << 20);
    assert_eq!(ring.allocated(), 0);
    ring.push(Channel::Stdout, b"hello", false);
    assert!(ring.allocated() < 1024);
}

#[tokio::test]
async fn a_follower_gets_what_comes_and_then_the_end() {
    let ring = ring_of(&["kept"]);
    let mut reader = ring.reader(ReaderOptions { follow: true, ..Default::default() });
    assert_eq!(reader.next().await.unwrap().entries[0].data, "kept".as_bytes());
    let writer = ring.clone();
    let follower = tokio::spawn(async move {
        let batch = reader.next().await.unwrap();
        (batch.entries[0].data.clone(), reader.next().await)
    });
    tokio::task::yield_now().await;
    writer.push(Channel::Stdout, b"new", false);
    writer.close();
    let (data, end) = tokio::time::timeout(PATIENCE, follower).await.unwrap().unwrap();
    assert_eq!(data, "new".as_bytes());
    assert_eq!(end, None);
}

#[tokio::test]
async fn a_reader_that_comes_after_the_end_gets_what_was_kept() {
    let ring = ring_of(&["kept"]);
    ring.close();
    let mut reader = ring.reader(ReaderOptions { follow: true, ..Default::default() });
    assert_eq!(reader.next().await.unwrap().entries.len(), 1);
    assert_eq!(reader.next().await, None);
}

#[tokio::test]
async fn a_slow_reader_is_told_what_it_missed() {
    let ring = ring_of(&["first"]);
    let mut reader = ring.reader(ReaderOptions { follow: true, ..Default::default() });
    reader.next().await.unwrap();
    for _ in 0..10_000 {
        ring.push(Channel::Stdout, b"0123456789", false);
    }
    ring.close();
    let (mut got, mut missed, mut missed_bytes) = (0, 0, 0);
    while let Some(batch) = reader.next().await {
        got += batch.entries.len() as u64;
        missed += batch.missed_entries;
        missed_bytes += batch.missed_bytes;
    }
    assert!(missed > 0);
    assert_eq!(got + missed, 10_000);
    assert_eq!(missed_bytes, missed * 10);
}

#[test]
fn a_reader_that_does_not_follow_misses_nothing_beyond_its_end() {
    let ring = ring_of(&["wanted"]);
    let reader = ring.reader(ReaderOptions::default());
    for _ in 0..10_000 {
        ring.push(Channel::Stdout, b"came later", false);
    }
    assert_eq!(drain(reader), (Vec::new(), 1, 6));
}

/// A write: which channel, how many bytes, and whether it ends a line.
fn writes() -> impl Strategy<Value = Vec<(bool, usize, bool)>> {
    proptest::collection::vec((any::<bool>(), 0usize..700, any::<bool>()), 0..200)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn nothing_is_lost_without_being_counted(
        writes in writes(),
        capacity in MIN_CAPACITY..64 << 10,
        read_every in 1usize..50,
        only in proptest::option::of(any::<bool>()),
    ) {
        let channel = |stderr: bool| if stderr { Channel::Stderr } else { Channel::Stdout };
        let only = only.map(channel);
        let ring = LogRing::new(capacity);
        let mut reader = ring.reader(ReaderOptions { follow: true, channel: only, ..Default::default() });
        let (mut expected_bytes, mut expected_lines) = (0, 0);
        let (mut bytes, mut lines, mut entries, mut missed) = (0, 0, 0, 0);
        let mut take = |batch: Batch| {
            bytes += batch.entries.iter().map(|entry| entry.data.len() as u64).sum::<u64>() + batch.missed_bytes;
            lines += batch.entries.iter().filter(|entry| !entry.partial).count();
            entries += batch.entries.len() as u64;
            missed += batch.missed_entries;
        };
        for (number, (stderr, length, partial)) in writes.iter().enumerate() {
            ring.push(channel(*stderr), &vec![b'x'; *length], *partial);
            prop_assert!(ring.allocated() <= capacity);
            if only.is_none_or(|only| only == channel(*stderr)) {
                expected_bytes += *length as u64;
                expected_lines += usize::from(!partial);
            }
            if number % read_every == 0 {
                while let Step::Batch(batch) = reader.step() {
                    take(batch);
                }
            }
        }
        ring.close();
        loop {
            match reader.step() {
                Step::Batch(batch) => take(batch),
                Step::More => {}
                Step::Wait => prop_assert!(false, "a closed ring waits for nothing"),
                Step::End => break,
            }
        }
        prop_assert_eq!(bytes, expected_bytes);
        if missed == 0 {
            prop_assert_eq!(lines, expected_lines);
        } else {
            prop_assert!(entries > 0 || only.is_some());
        }
    }

    #[test]
    fn output_that_was_kept_is_rebuilt_byte_for_byte(
        chunks in proptest::collection::vec(
            proptest::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..300), 0..10
        )
    ) {
        let ring = LogRing::new(1 << 20);
        let mut splitter = LineSplitter::default();
        for chunk in &chunks {
            splitter.push(chunk, |data, partial| ring.push(Channel::Stdout, data, partial));
        }
        splitter.flush(|data, partial| ring.push(Channel::Stdout, data, partial));
        let (entries, missed, _) = drain(ring.reader(ReaderOptions::default()));
        let mut rebuilt = Vec::new();
        for (_, data, partial) in entries {
            rebuilt.extend(data);
            if !partial {
                rebuilt.push(b'\n');
            }
        }
        prop_assert_eq!(missed, 0);
        prop_assert_eq!(rebuilt, chunks.concat());
    }
}
