//! What is noted on a cell's cgroup, for whoever finds it there: another daemon, or this one after a
//! restart. The kernel keeps the notes for as long as the cgroup.
//!
//! ```text
//! mkdir ─▶ (no notes) ─describe─▶ traits ─ready─▶ live ─free─▶ freeing ─▶ rmdir
//!              half made ───────────┘              └─▶ failed ──┘
//! ```

use std::ffi::{CStr, CString};

use aurae_kernel::Result;
use aurae_kernel::cgroup::Cgroup;
use aurae_model::{CellName, IdRange};

/// What the cell was asked to be.
const TRAITS: &CStr = c"trusted.aurae.cell";
/// How it stands.
const STANDING: &CStr = c"trusted.aurae.standing";

/// Whether it stands still.
const FROZEN: &CStr = c"trusted.aurae.frozen";

/// Of a reason so many characters are kept: a note is short.
const MAX_REASON: usize = 200;

const LIVE: &str = "live";
const FREEING: &str = "freeing";
const FAILED: &str = "failed ";

/// What is noted on the cgroup around a cell while that is being made: until it has notes of its own, this
/// tells it from a cgroup of somebody else's.
#[derive(Debug)]
pub(super) struct Making {
    note: CString,
}

impl Making {
    /// The note for the cell `name`.
    pub(super) fn of(name: &CellName) -> Self {
        // No name has a zero in it.
        Self { note: CString::new(format!("trusted.aurae.making.{name}")).unwrap_or_default() }
    }

    /// Notes it.
    pub(super) fn note(&self, around: &Cgroup) -> Result<()> {
        around.note(&self.note, "")
    }

    /// Whether it is noted.
    pub(super) fn is_noted(&self, around: &Cgroup) -> Result<bool> {
        Ok(around.noted(&self.note)?.is_some())
    }

    /// Takes it back. What is left of it on a failure tells no lie before the name is used again.
    pub(super) fn take_back(&self, around: &Cgroup) {
        if let Err(error) = around.unnote(&self.note) {
            tracing::warn!(error = crate::reply::text(&error), "a note is left");
        }
    }
}

/// What a cell was asked to be, beside its limits, which are the cgroup's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traits {
    /// Its own pid, mount, ipc and uts namespaces.
    pub isolate_process: bool,
    /// Its own network namespace.
    pub isolate_network: bool,
    /// Its executables may have its API on a socket.
    pub api_socket: bool,
    /// Its file systems are read-only to it.
    pub read_only_root: bool,
    /// Its own `/tmp`.
    pub private_tmp: bool,
    /// `/proc` and `/sys` as the kernel has them.
    pub unmasked_paths: bool,
    /// Its own user namespace, with these users.
    pub users: Option<IdRange>,
}

/// What a note of a cell's users begins with.
const USERS: &str = "users=";

/// How a cell stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is being made, or was left half made.
    Unfinished,
    /// Its daemon got ready.
    Live,
    /// It is being freed, or was left half freed.
    Freeing,
    /// Its daemon ended.
    Failed(String),
}

/// Whether a cell stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Frozen {
    /// It does not.
    No,
    /// That was asked for by its name.
    Asked,
    /// The zone around it does.
    Around,
}

impl Frozen {
    const ALL: [(Self, &str); 3] =
        [(Self::No, "no"), (Self::Asked, "asked"), (Self::Around, "around")];

    /// Notes it.
    pub(super) fn note(self, cgroup: &Cgroup) -> Result<()> {
        let word = Self::ALL.iter().find(|(frozen, _)| *frozen == self);
        word.map_or(Ok(()), |(_, word)| cgroup.note(FROZEN, word))
    }

    /// What is noted on `cgroup`.
    pub(super) fn read(cgroup: &Cgroup) -> Result<Self> {
        let Some(text) = cgroup.noted(FROZEN)? else { return Ok(Self::No) };
        let known = Self::ALL.iter().find(|(_, word)| *word == text);
        Ok(known.map_or(Self::No, |(frozen, _)| *frozen))
    }
}

impl Traits {
    /// Notes them on a new cgroup.
    pub(super) fn note(self, cgroup: &Cgroup) -> Result<()> {
        let words = self.words().filter(|(_, holds)| *holds).map(|(word, _)| word.to_owned());
        let users = self.users.map(|users| format!("{USERS}{users}"));
        cgroup.note(TRAITS, &words.chain(users).collect::<Vec<_>>().join(" "))
    }

    /// What is noted on `cgroup`; `None` where it is no cell's.
    pub(super) fn read(cgroup: &Cgroup) -> Result<Option<Self>> {
        let Some(text) = cgroup.noted(TRAITS)? else { return Ok(None) };
        let has = |wanted| text.split(' ').any(|word| word == wanted);
        Ok(Some(Self {
            isolate_process: has("process"),
            isolate_network: has("network"),
            api_socket: has("socket"),
            read_only_root: has("read-only-root"),
            private_tmp: has("private-tmp"),
            unmasked_paths: has("unmasked"),
            users: text.split(' ').find_map(|word| IdRange::from_text(word.strip_prefix(USERS)?)),
        }))
    }

    fn words(self) -> impl Iterator<Item = (&'static str, bool)> {
        [
            ("process", self.isolate_process),
            ("network", self.isolate_network),
            ("socket", self.api_socket),
            ("read-only-root", self.read_only_root),
            ("private-tmp", self.private_tmp),
            ("unmasked", self.unmasked_paths),
        ]
        .into_iter()
    }
}

impl Standing {
    /// Notes it.
    pub(super) fn note(&self, cgroup: &Cgroup) -> Result<()> {
        match self {
            Self::Unfinished => Ok(()),
            Self::Live => cgroup.note(STANDING, LIVE),
            Self::Freeing => cgroup.note(STANDING, FREEING),
            Self::Failed(reason) => {
                let reason: String = reason.chars().take(MAX_REASON).collect();
                cgroup.note(STANDING, &format!("{FAILED}{reason}"))
            }
        }
    }

    /// What is noted on `cgroup`.
    pub(super) fn read(cgroup: &Cgroup) -> Result<Self> {
        Ok(cgroup.noted(STANDING)?.map_or(Self::Unfinished, |text| Self::parse(&text)))
    }

    fn parse(text: &str) -> Self {
        match (text, text.strip_prefix(FAILED)) {
            (LIVE, _) => Self::Live,
            (FREEING, _) => Self::Freeing,
            (_, Some(reason)) => Self::Failed(reason.to_owned()),
            // A newer daemon's: whatever it means, this one cannot use the cell.
            _ => Self::Failed(format!("its cgroup says {text:?}")),
        }
    }
}
