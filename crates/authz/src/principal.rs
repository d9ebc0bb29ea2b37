//! Who asks.

use std::fmt;
use std::sync::Arc;

/// How a principal's name was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// A SPIFFE ID: the URI of the certificate's subject alternative name.
    Spiffe,
    /// The first DNS name of the certificate's subject alternative name.
    Dns,
    /// The common name of the certificate's subject.
    CommonName,
    /// The certificate names nobody: its serial number.
    Serial,
    /// The daemon above a zone, on the zone's own socket.
    Parent,
    /// An executable of a zone, on the socket that its zone gave it.
    Executable,
}

impl Form {
    /// Every form.
    pub const ALL: [Self; 6] =
        [Self::Spiffe, Self::Dns, Self::CommonName, Self::Serial, Self::Parent, Self::Executable];

    /// The form as the audit log spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Spiffe => "spiffe",
            Self::Dns => "dns",
            Self::CommonName => "common-name",
            Self::Serial => "serial",
            Self::Parent => "parent",
            Self::Executable => "executable",
        }
    }
}

/// What a principal is for, by the first part of its SPIFFE ID's path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Does everything.
    Admin,
    /// Reads, and changes what runs.
    Operator,
    /// Reads.
    Reader,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 3] = [Self::Admin, Self::Operator, Self::Reader];

    /// Its name: in the policies, and in a SPIFFE ID's path.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Operator => "operator",
            Self::Reader => "reader",
        }
    }
}

/// Who asks. Cheap to clone. Two principals are the same only if their forms are: a common name
/// cannot pass for a SPIFFE ID.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Principal {
    form: Form,
    name: Arc<str>,
    /// Another trust domain than the node's own vouches for it.
    foreign: bool,
}

/// The scheme of a SPIFFE ID.
const SPIFFE: &str = "spiffe://";

impl Principal {
    /// The principal of a certificate: its SPIFFE ID, else its first DNS name, else its common name,
    /// else its serial number.
    ///
    /// A certificate with more than one URI is no SVID (X.509-SVID, section 2), so its URIs do not
    /// count.
    #[must_use]
    pub fn of_certificate(
        uris: &[&str],
        dns_names: &[&str],
        common_name: Option<&str>,
        serial: &str,
    ) -> Self {
        if let [uri] = uris
            && is_spiffe_id(uri)
        {
            return Self::new(Form::Spiffe, uri);
        }
        if let Some(name) = dns_names.first() {
            return Self::new(Form::Dns, name);
        }
        match common_name {
            Some(name) if !name.is_empty() => Self::common_name(name),
            _ => Self::new(Form::Serial, serial),
        }
    }

    /// A principal that is known by a common name.
    #[must_use]
    pub fn common_name(name: &str) -> Self {
        Self::new(Form::CommonName, name)
    }

    /// The daemon above a zone.
    #[must_use]
    pub fn parent() -> Self {
        Self::new(Form::Parent, "parent")
    }

    /// An executable of a zone, by its resource name: `executables/nginx`.
    #[must_use]
    pub fn executable(name: &str) -> Self {
        Self::new(Form::Executable, name)
    }

    fn new(form: Form, name: &str) -> Self {
        Self { form, name: name.into(), foreign: false }
    }

    /// The principal as one word of visible ASCII, for a header between a daemon and its zones.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut word = format!("{}:", self.form.as_str());
        for byte in self.name.bytes() {
            if byte.is_ascii_graphic() && byte != b'%' {
                word.push(char::from(byte));
            } else {
                word.push_str(&format!("%{byte:02X}"));
            }
        }
        word
    }

    /// What [`Self::encode`] made; `None` for anything else.
    #[must_use]
    pub fn decode(word: &str) -> Option<Self> {
        let (form, name) = word.split_once(':')?;
        let form = Form::ALL.into_iter().find(|known| known.as_str() == form)?;
        let mut bytes = Vec::with_capacity(name.len());
        let mut rest = name.as_bytes();
        while let Some((&byte, after)) = rest.split_first() {
            rest = after;
            if byte == b'%' {
                let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
                bytes.push(u8::from_str_radix(digits, 16).ok()?);
                rest = rest.get(2..)?;
            } else {
                bytes.push(byte);
            }
        }
        Some(Self::new(form, std::str::from_utf8(&bytes).ok()?))
    }

    /// The same, whom another trust domain than the node's own vouches for: it has no role, whatever its
    /// path says, as that domain would else decide who is an admin here. Policies may name it.
    #[must_use]
    pub fn of_another_domain(self) -> Self {
        Self { foreign: true, ..self }
    }

    /// The role that a SPIFFE ID's path begins with: `spiffe://aurae.local/admin/alice`. No other form
    /// of principal has one, and none of another trust domain than the node's.
    #[must_use]
    pub fn role(&self) -> Option<Role> {
        if self.foreign {
            return None;
        }
        let (_, path) = self.spiffe_parts()?;
        let first = path.split('/').next()?;
        Role::ALL.into_iter().find(|role| role.as_str() == first)
    }

    /// The trust domain and the path (without its first `/`) of a SPIFFE ID.
    pub(crate) fn spiffe_parts(&self) -> Option<(&str, &str)> {
        if self.form != Form::Spiffe {
            return None;
        }
        let rest = self.name.strip_prefix(SPIFFE)?;
        Some(rest.split_once('/').unwrap_or((rest, "")))
    }

    /// The principal of a form by that name, for those who ask what somebody else may do. A SPIFFE ID
    /// has to be one.
    #[must_use]
    pub fn named(form: Form, name: &str) -> Option<Self> {
        let valid = form != Form::Parent && (form != Form::Spiffe || is_spiffe_id(name));
        valid.then(|| Self::new(form, name))
    }

    /// How the name was found.
    #[must_use]
    pub fn form(&self) -> Form {
        self.form
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// For people. No two principals read the same: what somebody else chose is in quotes, with escapes, unless
/// it is a SPIFFE ID.
impl fmt::Display for Principal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match self.form {
            Form::Spiffe | Form::Parent => formatter.write_str(name),
            Form::Dns => write!(formatter, "DNS name {name:?}"),
            Form::CommonName => write!(formatter, "common name {name:?}"),
            Form::Serial => write!(formatter, "certificate {}", name.escape_debug()),
            // An executable's name has nothing to escape, but a daemon above tells it.
            Form::Executable => write!(formatter, "{}", name.escape_debug()),
        }
    }
}

/// Whether `uri` is a SPIFFE ID: a trust domain of `a-z 0-9 . - _`, and a path of non-empty segments
/// of `A-Z a-z 0-9 . - _` that are neither `.` nor `..` (SPIFFE-ID, section 2).
fn is_spiffe_id(uri: &str) -> bool {
    let Some(rest) = uri.strip_prefix(SPIFFE) else { return false };
    let (trust_domain, path) = match rest.split_once('/') {
        Some((trust_domain, path)) => (trust_domain, Some(path)),
        None => (rest, None),
    };
    let plain = |byte: u8| matches!(byte, b'.' | b'-' | b'_') || byte.is_ascii_digit();
    !trust_domain.is_empty()
        && trust_domain.bytes().all(|byte| plain(byte) || byte.is_ascii_lowercase())
        && path.is_none_or(|path| {
            path.split('/').all(|segment| {
                !matches!(segment, "" | "." | "..")
                    && segment.bytes().all(|byte| plain(byte) || byte.is_ascii_alphabetic())
            })
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(uris: &[&str], dns_names: &[&str], common_name: Option<&str>) -> (Form, String) {
        let principal = Principal::of_certificate(uris, dns_names, common_name, "2a");
        (principal.form(), principal.name().to_owned())
    }

    #[test]
    fn a_spiffe_id_comes_first() {
        let found = named(&["spiffe://aurae.local/user/alice"], &["a.example"], Some("bob"));
        assert_eq!(found, (Form::Spiffe, "spiffe://aurae.local/user/alice".into()));
    }

    #[test]
    fn then_the_dns_name_then_the_common_name_then_the_serial_number() {
        assert_eq!(
            named(&["https://x.example"], &["a.example", "b.example"], Some("bob")),
            (Form::Dns, "a.example".into())
        );
        assert_eq!(named(&[], &[], Some("bob")), (Form::CommonName, "bob".into()));
        assert_eq!(named(&[], &[], Some("")), (Form::Serial, "2a".into()));
        assert_eq!(named(&[], &[], None), (Form::Serial, "2a".into()));
    }

    #[test]
    fn a_role_is_the_first_part_of_a_spiffe_ids_path() {
        let role = |name| Principal::named(Form::Spiffe, name).and_then(|named| named.role());
        assert_eq!(role("spiffe://a/admin/alice"), Some(Role::Admin));
        assert_eq!(role("spiffe://a/operator"), Some(Role::Operator));
        assert_eq!(role("spiffe://a/reader/x/y"), Some(Role::Reader));
        for none in ["spiffe://a", "spiffe://admin", "spiffe://a/Admin", "spiffe://a/user/admin"] {
            assert_eq!(role(none), None, "{none}");
        }
        let name = "spiffe://a/admin/alice";
        let foreign = Principal::named(Form::Spiffe, name).unwrap().of_another_domain();
        assert_eq!(foreign.role(), None);
        assert_eq!(Principal::common_name(name).role(), None);
        assert_eq!(Principal::named(Form::Dns, name).unwrap().role(), None);
        assert_eq!(Principal::named(Form::Spiffe, "admin/alice"), None);
        assert_eq!(Principal::named(Form::Parent, "parent"), None);
    }

    #[test]
    fn two_uris_are_no_identity() {
        let found = named(&["spiffe://a/b", "spiffe://a/c"], &[], Some("bob"));
        assert_eq!(found, (Form::CommonName, "bob".into()));
    }

    #[test]
    fn a_common_name_does_not_pass_for_a_spiffe_id() {
        let name = "spiffe://aurae.local/user/alice";
        assert_ne!(
            Principal::of_certificate(&[name], &[], None, ""),
            Principal::of_certificate(&[], &[], Some(name), "")
        );
    }

    #[test]
    fn a_principal_survives_a_header() {
        for name in ["alice", "a b%41", "ä\n", "", "spiffe://a/b"] {
            for form in Form::ALL {
                let principal = Principal::new(form, name);
                assert_eq!(Principal::decode(&principal.encode()), Some(principal));
            }
            let principal = Principal::common_name(name);
            let word = principal.encode();
            assert!(word.bytes().all(|byte| byte.is_ascii_graphic()), "{word}");
            assert_eq!(Principal::decode(&word), Some(principal));
        }
        for bad in ["", "alice", "king:alice", "common-name:%4", "common-name:%zz", "dns:%ff"] {
            assert_eq!(Principal::decode(bad), None, "{bad}");
        }
    }

    #[test]
    fn no_two_principals_read_the_same() {
        let names = [
            "alice",
            "spiffe://a/admin/alice",
            "certificate 2a",
            "common name \"alice\"",
            "executables/x",
            "parent",
            "alice\" may not call x\n",
        ];
        let principals = names.iter().flat_map(|name| {
            // None chooses the name of a SPIFFE ID, of a serial number, or of an executable freely.
            let free = [Form::Dns, Form::CommonName].map(|form| Principal::named(form, name));
            free.into_iter().chain([Principal::named(Form::Spiffe, name)]).flatten()
        });
        let ours = [Principal::parent(), Principal::executable("executables/x")];
        let serial = Principal::named(Form::Serial, "2a");
        let all: Vec<_> = principals.chain(ours).chain(serial).collect();
        let printed: std::collections::BTreeSet<_> = all.iter().map(Principal::to_string).collect();
        assert_eq!(printed.len(), all.len(), "{printed:?}");
        assert!(printed.iter().all(|text| !text.contains('\n')), "{printed:?}");
    }

    #[test]
    fn malformed_ids_are_told_apart() {
        for good in ["spiffe://a", "spiffe://a.b-c_1/x/Y.z"] {
            assert!(is_spiffe_id(good), "{good}");
        }
        for bad in [
            "",
            "spiffe://",
            "spiffe:///x",
            "SPIFFE://a/x",
            "spiffe://A/x",
            "spiffe://a/",
            "spiffe://a//x",
            "spiffe://a/../x",
            "spiffe://a:1/x",
            "spiffe://u@a/x",
            "spiffe://a/x?q",
            "spiffe://a/x#f",
            "spiffe://a/%2e",
        ] {
            assert!(!is_spiffe_id(bad), "{bad}");
        }
    }
}
