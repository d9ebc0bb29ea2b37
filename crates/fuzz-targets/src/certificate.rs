//! A client's certificate: whom it names is exact, and cannot be taken for somebody else.

use aurae_authz::{Form, Principal};
use auraed::gate::identity_of_certificate;
use rustls_pki_types::CertificateDer;
use webpki::EndEntityCert;

/// What a certificate can name.
const FORMS: [Form; 4] = [Form::Spiffe, Form::Dns, Form::CommonName, Form::Serial];

/// The input is a certificate (DER).
pub fn certificate(input: &[u8]) {
    let Ok(identity) = identity_of_certificate(input) else { return };
    let principal = identity.principal;
    assert!(FORMS.contains(&principal.form()), "{principal:?}");
    check_header(&principal);
    check_printed(&principal);
    check_against_another_reader(input, &principal);
}

/// A zone is told who asks in a header, and reads there who it was.
fn check_header(principal: &Principal) {
    let word = principal.encode();
    assert!(word.bytes().all(|byte| byte.is_ascii_graphic()), "{word:?} is no header");
    assert_eq!(Principal::decode(&word).as_ref(), Some(principal), "{word:?} is somebody else");
}

/// What is printed has no control characters, and nobody else can have it printed.
fn check_printed(principal: &Principal) {
    let printed = principal.to_string();
    assert!(!printed.contains(char::is_control), "{printed:?}");
    for form in FORMS.into_iter().filter(|form| *form != principal.form()) {
        for name in [principal.name(), &printed] {
            let other = Principal::named(form, name);
            assert!(other.is_none_or(|it| it.to_string() != printed), "{form:?} {name:?}");
        }
    }
}

/// A certificate that TLS takes names, for TLS, who it names for us.
fn check_against_another_reader(der: &[u8], principal: &Principal) {
    let der = CertificateDer::from(der);
    let Ok(read) = EndEntityCert::try_from(&der) else { return };
    let name = principal.name();
    match principal.form() {
        Form::Spiffe => {
            // It ends at the first name of a kind that it does not know.
            let uris: Vec<_> = read.valid_uri_names().collect();
            assert!(uris.iter().all(|uri| *uri == name), "{name} of {uris:?}");
        }
        // It leaves out those that are no DNS names.
        Form::Dns => {
            let first = read.valid_dns_names().next();
            assert!(
                first.is_none_or(|first| first == name || !is_dns_name(name)),
                "{first:?}, {name:?}"
            );
        }
        // A name that counts would have been taken. Of two URIs none does.
        Form::CommonName | Form::Serial => {
            assert_eq!(read.valid_dns_names().next(), None, "a DNS name was passed over");
            let uris: Vec<_> = read.valid_uri_names().collect();
            let only = match uris.as_slice() {
                [only] => Principal::named(Form::Spiffe, only),
                _ => None,
            };
            assert!(only.is_none(), "a SPIFFE ID was passed over: {uris:?}");
        }
        Form::Parent | Form::Executable => {}
    }
}

fn is_dns_name(name: &str) -> bool {
    rustls_pki_types::DnsName::try_from(name).is_ok()
}
