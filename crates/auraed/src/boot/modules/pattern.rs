//! The patterns of `modules.alias`: a shell's `*`, `?` and `[…]` (`fnmatch(3)` without flags).

/// Whether the whole text matches the pattern. Time is bounded by the product of the two lengths: only
/// the last `*` is ever taken up again.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut at_pattern, mut at_text) = (0, 0);
    let mut retry = None;
    loop {
        if pattern.get(at_pattern) == Some(&b'*') {
            at_pattern += 1;
            retry = Some((at_pattern, at_text));
            continue;
        }
        let step = match text.get(at_text) {
            None if at_pattern == pattern.len() => return true,
            // Nothing is left to match the rest of the pattern, and a longer `*` leaves even less.
            None => return false,
            Some(byte) => match_one(&pattern[at_pattern..], *byte),
        };
        match (step, retry) {
            (Some(length), _) => {
                at_pattern += length;
                at_text += 1;
            }
            (None, Some((after_star, from))) => {
                at_pattern = after_star;
                at_text = from + 1;
                retry = Some((after_star, from + 1));
            }
            (None, None) => return false,
        }
    }
}

/// Matches one byte with the pattern's first element, and says how long that element is.
fn match_one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern.first()? {
        b'?' => Some(1),
        b'[' => match_set(pattern, byte),
        literal if *literal == byte => Some(1),
        _ => None,
    }
}

/// `[abc]`, `[a-f0-9]`, `[!x]`. A set that is not closed matches nothing.
fn match_set(pattern: &[u8], byte: u8) -> Option<usize> {
    let end = pattern.iter().position(|byte| *byte == b']')?;
    let set = &pattern[1..end];
    let (negated, mut set) = match set.split_first() {
        Some((b'!' | b'^', rest)) => (true, rest),
        _ => (false, set),
    };
    let mut found = false;
    loop {
        set = match set {
            [] => break,
            [low, b'-', high, rest @ ..] => {
                found |= (*low..=*high).contains(&byte);
                rest
            }
            [single, rest @ ..] => {
                found |= *single == byte;
                rest
            }
        };
    }
    (found != negated).then_some(end + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::matches;

    #[test]
    fn patterns_of_real_devices_match() {
        for (pattern, text) in [
            ("virtio:d00000001v*", "virtio:d00000001v00001AF4"),
            (
                "pci:v00001AF4d*sv*sd*bc*sc*i*",
                "pci:v00001AF4d00001041sv00001AF4sd00001100bc02sc00i00",
            ),
            ("acpi*:LNXPWRBN:*", "acpi:LNXPWRBN:"),
            (
                "cpu:type:x86,ven*fam*mod*:feature:*00C2*",
                "cpu:type:x86,ven0002fam0019mod0001:feature:,0000,00C2,0100",
            ),
            ("input:b*v*p*e*-e*1,*", "input:b0019v0000p0001e0000-e0,1,k74,ramlsfw"),
            ("usb:v1D6Bp000[1-3]d*", "usb:v1D6Bp0002d0100"),
            ("a[!b]c", "axc"),
            ("*", ""),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn patterns_of_other_devices_do_not_match() {
        for (pattern, text) in [
            ("virtio:d00000002v*", "virtio:d00000001v00001AF4"),
            ("usb:v1D6Bp000[1-3]d*", "usb:v1D6Bp0004d0100"),
            ("a[!b]c", "abc"),
            ("a[bc", "ab"),
            ("abc", "ab"),
            ("ab", "abc"),
            ("a*b*c", "a1b2"),
            ("", "a"),
        ] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_breaks_the_matcher(pattern in "[a*?\\[\\]!-]{0,24}", text in "[a-]{0,40}") {
            let _ = matches(&pattern, &text);
        }

        #[test]
        fn a_text_without_wildcards_matches_itself_only(text in "[a-z:]{0,16}", other in "[a-z:]{0,16}") {
            prop_assert_eq!(matches(&text, &other), text == other);
        }

        #[test]
        fn a_star_stands_for_anything(head in "[a-z]{0,8}", middle in "[a-z]{0,8}", tail in "[a-z]{0,8}") {
            let pattern = format!("{head}*{tail}");
            let text = format!("{head}{middle}{tail}");
            prop_assert!(matches(&pattern, &text));
        }
    }
}
