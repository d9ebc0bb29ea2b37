//! Trees go through as they are, and nothing leads outside.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use aurae_copy::{
    Copied, CopyError, Entry, EntryPath, Item, Kind, MAX_DEPTH, Ownership, Reader, Reading, Step,
    Writer, Writing, parse_entry,
};
use proptest::prelude::*;
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps};

/// What a copy has to keep of one file, directory or link.
#[derive(Debug, PartialEq, Eq)]
struct Kept {
    mode: u32,
    modified: (i64, i64),
    content: Vec<u8>,
    /// The first name of the same file.
    same_as: Option<PathBuf>,
}

fn kept(root: &Path) -> BTreeMap<PathBuf, Kept> {
    let (mut all, mut first) = (BTreeMap::new(), BTreeMap::new());
    let mut left = vec![root.to_owned()];
    while let Some(path) = left.pop() {
        let data = fs::symlink_metadata(&path).unwrap();
        let kind = data.file_type();
        let content = if kind.is_file() {
            fs::read(&path).unwrap()
        } else if kind.is_symlink() {
            fs::read_link(&path).unwrap().as_os_str().as_bytes().to_owned()
        } else {
            Vec::new()
        };
        if kind.is_dir() {
            let mut names: Vec<_> =
                fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()).collect();
            names.sort_by(|left, right| right.cmp(left));
            left.extend(names);
        }
        let name = path.strip_prefix(root).unwrap().to_owned();
        let same_as = match kind.is_file() && data.nlink() > 1 {
            true => Some(first.entry(data.ino()).or_insert_with(|| name.clone()).clone()),
            false => None,
        };
        let modified = (data.mtime(), data.mtime_nsec());
        all.insert(name, Kept { mode: data.mode(), modified, content, same_as });
    }
    all
}

fn set_time(path: &Path, seconds: i64, nanos: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanos };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Copies through entries as they are on the wire.
fn copy(source: &Path, name: &str, target: &Path) -> Result<(Copied, Vec<String>), CopyError> {
    let name = EntryPath::parse(name.as_bytes(), "name").unwrap();
    let mut reader = Reader::open(source, Some(name))?;
    let mut writer = Writer::open(target, Ownership::Preserved)?;
    let mut skipped = Vec::new();
    while let Some(item) = reader.next_item()? {
        match item {
            Item::Entry(entry) => {
                let sent = aurae_proto::cells::CopyEntry::from(entry.clone());
                assert_eq!(parse_entry(sent).unwrap(), entry);
                writer.entry(entry)?;
            }
            Item::Data(bytes) => writer.data(&bytes)?,
            Item::Skipped { path, reason } => skipped.push(format!("{path:?}: {reason}")),
        }
    }
    Ok((writer.finish()?, skipped))
}

fn path(text: &str) -> EntryPath {
    EntryPath::parse(text.as_bytes(), "path").unwrap()
}

fn entry(name: &str, kind: Kind) -> Entry {
    Entry { path: path(name), mode: 0o755, uid: 0, gid: 0, modified: 0, kind }
}

fn link(target: &Path) -> Kind {
    Kind::Symlink(target.as_os_str().as_bytes().into())
}

/// A target, and something outside it that nobody may touch.
struct Bed {
    directory: tempfile::TempDir,
}

impl Bed {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("target")).unwrap();
        fs::create_dir(directory.path().join("outside")).unwrap();
        fs::write(directory.path().join("outside/secret"), "secret").unwrap();
        Self { directory }
    }

    fn target(&self) -> PathBuf {
        self.directory.path().join("target")
    }

    fn outside(&self) -> PathBuf {
        self.directory.path().join("outside")
    }

    fn writer(&self) -> Writer {
        Writer::open(&self.target(), Ownership::Own).unwrap()
    }

    fn names(&self) -> Vec<String> {
        let names = fs::read_dir(self.target()).unwrap();
        let mut names: Vec<_> =
            names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Nothing outside has changed.
    fn assert_kept_in(&self) {
        assert_eq!(fs::read_dir(self.outside()).unwrap().count(), 1);
        assert_eq!(fs::read(self.outside().join("secret")).unwrap(), b"secret");
        assert_eq!(fs::metadata(self.outside().join("secret")).unwrap().nlink(), 1);
    }
}

/// A generated file, directory or link.
#[derive(Clone, Debug)]
enum Made {
    File(Vec<u8>, u32),
    Directory(Vec<Made>, u32),
    Symlink(String),
    Fifo(u32),
    /// Another name of the file that was made last.
    Hardlink,
}

fn made() -> impl Strategy<Value = Made> {
    let leaf = prop_oneof![
        (proptest::collection::vec(any::<u8>(), 0..9000), 0o400..=0o7777_u32)
            .prop_map(|(bytes, mode)| Made::File(bytes, mode)),
        "[a-z/.]{1,20}".prop_map(Made::Symlink),
        (0..=0o777_u32).prop_map(Made::Fifo),
        Just(Made::Hardlink),
    ];
    leaf.prop_recursive(4, 30, 6, |inner| {
        (proptest::collection::vec(inner, 0..6), 0o0..=0o7777_u32)
            .prop_map(|(inside, mode)| Made::Directory(inside, mode | 0o700))
    })
}

fn make(at: &Path, made: &Made, last_file: &mut Option<PathBuf>) {
    match made {
        Made::File(bytes, mode) => {
            fs::write(at, bytes).unwrap();
            set_mode(at, mode | 0o400);
            *last_file = Some(at.to_owned());
        }
        Made::Directory(inside, mode) => {
            fs::create_dir(at).unwrap();
            for (number, made) in inside.iter().enumerate() {
                make(
                    &at.join(std::ffi::OsStr::from_bytes(&[b'n', 0xff, number as u8 + b'0'])),
                    made,
                    last_file,
                );
            }
            set_mode(at, *mode);
        }
        Made::Symlink(target) => symlink(target, at).unwrap(),
        Made::Fifo(mode) => {
            rustix::fs::mknodat(CWD, at, FileType::Fifo, Mode::from_raw_mode(*mode), 0).unwrap();
        }
        Made::Hardlink => match last_file {
            Some(file) => fs::hard_link(file, at).unwrap(),
            None => return,
        },
    }
    let length = at.as_os_str().len() as i64;
    set_time(at, length * 1_000_003 - 40_000_000, length * 7_919);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_tree_comes_back_as_it_was(made in made()) {
        let bed = Bed::new();
        let source = bed.directory.path().join("source");
        make(&source, &made, &mut None);
        if source.symlink_metadata().is_ok() {
            let before = kept(&source);
            let (copied, skipped) = copy(&source, "copy", &bed.target()).unwrap();
            prop_assert_eq!(&kept(&bed.target().join("copy")), &before);
            prop_assert_eq!(copied.entries as usize, before.len());
            prop_assert!(skipped.is_empty());
            // Over what is there already it is the same again, unless a mode forbids that.
            copy(&source, "copy", &bed.target()).unwrap();
            let again = kept(&bed.target().join("copy"));
            prop_assert!(again.keys().eq(before.keys()));
        }
    }

    #[test]
    fn no_order_of_entries_leads_outside(steps in proptest::collection::vec((0..6_usize, 0..5_usize), 1..40)) {
        let bed = Bed::new();
        let names = ["a", "a/b", "a/b/c", "d", "d/e"];
        let mut writer = bed.writer();
        for (kind, name) in steps {
            let kind = match kind {
                0 => Kind::File(3),
                1 | 2 => Kind::Directory,
                3 => link(&bed.outside()),
                4 => Kind::Hardlink(path("a/secret")),
                _ => Kind::Fifo,
            };
            if writer.entry(entry(names[name], kind.clone())).is_ok() && kind == Kind::File(3) {
                writer.data(b"new").unwrap();
            }
        }
        drop(writer);
        bed.assert_kept_in();
    }
}

#[test]
fn a_directory_that_may_not_be_written_is_copied_with_what_is_in_it() {
    let bed = Bed::new();
    let source = bed.directory.path().join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "x").unwrap();
    set_mode(&source, 0o555);
    copy(&source, "copy", &bed.target()).unwrap();
    let copied = bed.target().join("copy");
    assert_eq!(fs::metadata(&copied).unwrap().mode() & 0o7777, 0o555);
    assert_eq!(fs::read(copied.join("file")).unwrap(), b"x");
    for directory in [source, copied] {
        set_mode(&directory, 0o755);
    }
}

#[test]
fn an_entry_through_a_link_that_came_before_it_is_refused() {
    let bed = Bed::new();
    let mut writer = bed.writer();
    writer.entry(entry("way", link(&bed.outside()))).unwrap();
    let refused = writer.entry(entry("way/new", Kind::File(0))).unwrap_err();
    assert!(matches!(refused, CopyError::Order { .. }), "{refused}");
    let refused = writer.entry(entry("way", Kind::Directory)).unwrap_err();
    assert!(matches!(refused, CopyError::Exists { .. }), "{refused}");
    let refused = writer.entry(entry("mine", Kind::Hardlink(path("way/secret")))).unwrap_err();
    assert!(matches!(refused, CopyError::Kernel { .. }), "{refused}");
    let refused = writer.entry(entry("way", Kind::File(0))).unwrap_err();
    assert!(matches!(refused, CopyError::Exists { .. }), "{refused}");
    bed.assert_kept_in();
}

#[test]
fn a_directory_that_becomes_a_link_meanwhile_leads_nowhere() {
    let bed = Bed::new();
    let mut writer = bed.writer();
    writer.entry(entry("a", Kind::Directory)).unwrap();
    fs::rename(bed.target().join("a"), bed.target().join("moved")).unwrap();
    symlink(bed.outside(), bed.target().join("a")).unwrap();
    writer.entry(entry("a/new", Kind::File(3))).unwrap();
    writer.data(b"new").unwrap();
    writer.finish().unwrap();
    assert_eq!(fs::read(bed.target().join("moved/new")).unwrap(), b"new");
    bed.assert_kept_in();
}

#[test]
fn no_link_below_the_source_is_followed() {
    let bed = Bed::new();
    let source = bed.directory.path().join("source");
    fs::create_dir(&source).unwrap();
    symlink(bed.outside(), source.join("way")).unwrap();
    symlink(&source, bed.directory.path().join("to-source")).unwrap();
    copy(&source, "copy", &bed.target()).unwrap();
    assert_eq!(fs::read_link(bed.target().join("copy/way")).unwrap(), bed.outside());
    // The source itself is a link, and told as one unless it is named with a slash.
    let way = bed.directory.path().join("to-source");
    copy(&way, "link", &bed.target()).unwrap();
    assert_eq!(fs::read_link(bed.target().join("link")).unwrap(), source);
    copy(&way.join(""), "followed", &bed.target()).unwrap();
    assert!(bed.target().join("followed/way").is_symlink());
}

#[test]
fn a_file_that_is_not_whole_leaves_what_was_there() {
    let bed = Bed::new();
    fs::write(bed.target().join("file"), "old").unwrap();
    let begin = || {
        let mut writer = bed.writer();
        writer.entry(entry("file", Kind::File(10))).unwrap();
        writer.data(b"new").unwrap();
        writer
    };
    drop(begin());
    let refused = begin().finish().unwrap_err();
    assert!(matches!(refused, CopyError::Size { said: 10, got: 3, .. }), "{refused}");
    let refused = begin().entry(entry("other", Kind::Fifo)).unwrap_err();
    assert!(matches!(refused, CopyError::Size { .. }), "{refused}");
    let refused = begin().data(b"longer than that").unwrap_err();
    assert!(matches!(refused, CopyError::Size { said: 10, got: 19, .. }), "{refused}");
    assert!(matches!(bed.writer().data(b"x").unwrap_err(), CopyError::NoFile));
    assert_eq!(bed.names(), ["file"]);
    assert_eq!(fs::read(bed.target().join("file")).unwrap(), b"old");
}

#[test]
fn what_is_of_another_kind_stays() {
    let bed = Bed::new();
    fs::create_dir(bed.target().join("a")).unwrap();
    fs::write(bed.target().join("b"), "").unwrap();
    for (name, kind) in [("a", Kind::File(0)), ("a", link(Path::new("x"))), ("b", Kind::Directory)]
    {
        let refused = bed.writer().entry(entry(name, kind)).unwrap_err();
        assert!(refused.to_string().contains("is there already, and is not a"), "{refused}");
    }
    assert_eq!(bed.names(), ["a", "b"]);
}

#[test]
fn the_bits_of_another_owner_are_left_out_unless_the_owner_is_kept() {
    let bed = Bed::new();
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    for (ownership, expected) in [(Ownership::Own, 0o755), (Ownership::Preserved, 0o6755)] {
        let mut writer = Writer::open(&bed.target(), ownership).unwrap();
        let program = Entry { mode: 0o6755, uid, gid, ..entry("program", Kind::File(0)) };
        writer.entry(program).unwrap();
        writer.finish().unwrap();
        let mode = fs::metadata(bed.target().join("program")).unwrap().mode();
        assert_eq!(mode & 0o7777, expected);
    }
}

#[test]
fn sockets_are_left_out_and_said() {
    let bed = Bed::new();
    let source = bed.directory.path().join("source");
    fs::create_dir(&source).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(source.join("socket")).unwrap();
    let (copied, skipped) = copy(&source, "copy", &bed.target()).unwrap();
    assert_eq!((copied.entries, skipped), (1, vec!["\"copy/socket\": it is a socket".to_owned()]));
}

#[test]
fn a_tree_that_is_too_deep_is_refused() {
    let bed = Bed::new();
    let source = bed.directory.path().join("s");
    let deep: PathBuf = std::iter::repeat_n("d", MAX_DEPTH).collect();
    fs::DirBuilder::new().recursive(true).mode(0o755).create(source.join(deep)).unwrap();
    let refused = copy(&source, "s", &bed.target()).unwrap_err();
    assert!(refused.to_string().contains("At most 128 deep"), "{refused}");
}

#[test]
fn a_full_disk_leaves_nothing_half() {
    let bed = Bed::new();
    let Ok(()) = rustix::mount::mount(
        "none",
        bed.target(),
        "tmpfs",
        rustix::mount::MountFlags::empty(),
        Some(c"size=64k"),
    ) else {
        // Who may not mount has this tested in the nodes that the tests boot.
        return;
    };
    let mut writer = bed.writer();
    writer.entry(entry("a", Kind::Directory)).unwrap();
    writer.entry(entry("a/big", Kind::File(1 << 20))).unwrap();
    let refused = writer.data(&vec![1; 1 << 20]).unwrap_err();
    assert!(refused.to_string().contains("failed to write a/big"), "{refused}");
    drop(writer);
    let left = fs::read_dir(bed.target().join("a")).unwrap().count();
    rustix::mount::unmount(bed.target(), rustix::mount::UnmountFlags::empty()).unwrap();
    assert_eq!(left, 0);
}

#[tokio::test(flavor = "current_thread")]
async fn threads_move_a_tree_and_clean_up_when_nobody_waits() {
    let bed = Bed::new();
    let source = bed.directory.path().join("big");
    fs::write(&source, vec![7; 3 << 20]).unwrap();
    let mut reading = Reading::start(source.clone(), None, ()).unwrap();
    let mut writing = Writing::start(bed.target(), Ownership::Own, ()).unwrap();
    while let Some(item) = reading.next().await.unwrap() {
        let step = match item {
            Item::Entry(entry) => Step::Entry(entry),
            Item::Data(bytes) => Step::Data(bytes),
            Item::Skipped { .. } => unreachable!("there is one file"),
        };
        writing.step(step).await.unwrap();
    }
    assert_eq!(writing.finish().await.unwrap(), Copied { entries: 1, bytes: 3 << 20 });
    assert_eq!(fs::metadata(bed.target().join("big")).unwrap().len(), 3 << 20);

    let mut writing = Writing::start(bed.target(), Ownership::Own, ()).unwrap();
    writing.step(Step::Entry(entry("half", Kind::File(10)))).await.unwrap();
    writing.abandon().await;
    assert_eq!(bed.names(), ["big"]);

    let absent = bed.directory.path().join("absent");
    let refused = Reading::start(absent, None, ()).unwrap().next().await.unwrap_err();
    assert!(refused.to_string().contains("failed to look at absent"), "{refused}");
}

#[test]
fn a_file_of_the_kernels_is_left_out_and_said_so() {
    for path in ["/proc/self/status", "/sys/kernel/mm/transparent_hugepage/enabled"] {
        let mut reader = Reader::open(Path::new(path), None).unwrap();
        match reader.next_item().unwrap() {
            Some(Item::Skipped { reason, .. }) => assert!(reason.contains("no size"), "{reason}"),
            other => panic!("{path}: {other:?}"),
        }
        assert!(reader.next_item().unwrap().is_none());
    }
}
