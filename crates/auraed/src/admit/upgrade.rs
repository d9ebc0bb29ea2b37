//! The messages of an upgrade.

use aurae_model::Invalid;
use aurae_proto::node::UpgradeRequest;
use aurae_proto::node::upgrade_request::Message;

use crate::runtime::upgrade::{Announced, MAX_PIECE, MAX_SIZE};

/// The first message; `None`: there was none.
///
/// # Errors
/// The field that breaks a rule.
pub fn start(first: Option<UpgradeRequest>) -> Result<Announced, Invalid> {
    let Some(Message::Start(start)) = first.and_then(|request| request.message) else {
        return Err(Invalid::new("start", "Required as the first message"));
    };
    if !(1..=MAX_SIZE).contains(&start.size) {
        return Err(Invalid::new("start.size", format!("Must be 1 to {MAX_SIZE} bytes")));
    }
    let digest = <[u8; 32]>::try_from(start.sha256.as_ref() as &[u8]);
    let sha256 = digest.map_err(|_| Invalid::new("start.sha256", "Must have 32 bytes"))?;
    Ok(Announced { size: start.size, sha256, check_only: start.check_only })
}

/// A message after the first.
///
/// # Errors
/// The field that breaks a rule.
pub fn data(request: UpgradeRequest) -> Result<impl AsRef<[u8]>, Invalid> {
    let Some(Message::Data(bytes)) = request.message else {
        return Err(Invalid::new("data", "Required after the first message"));
    };
    if bytes.len() > MAX_PIECE {
        return Err(Invalid::new("data", format!("Must have at most {MAX_PIECE} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use aurae_proto::node::UpgradeStart;

    use super::*;

    fn request(message: Message) -> UpgradeRequest {
        UpgradeRequest { message: Some(message) }
    }

    #[test]
    fn the_first_message_says_what_comes() {
        let start_of = |size, length: usize| {
            let sha256 = vec![7; length];
            start(Some(request(Message::Start(UpgradeStart { size, sha256, check_only: true }))))
        };
        let announced = start_of(MAX_SIZE, 32).unwrap();
        assert_eq!(announced, Announced { size: MAX_SIZE, sha256: [7; 32], check_only: true });
        for size in [0, MAX_SIZE + 1] {
            assert_eq!(start_of(size, 32).unwrap_err().field, "start.size");
        }
        for length in [0, 31, 33] {
            assert_eq!(start_of(1, length).unwrap_err().field, "start.sha256");
        }
        assert_eq!(start(None).unwrap_err().field, "start");
        assert!(start(Some(request(Message::Data(vec![1].into())))).is_err());
    }

    #[test]
    fn the_others_are_bytes() {
        assert!(data(request(Message::Data(vec![0; MAX_PIECE].into()))).is_ok());
        assert!(data(request(Message::Data(vec![0; MAX_PIECE + 1].into()))).is_err());
        assert!(data(UpgradeRequest { message: None }).is_err());
    }
}
