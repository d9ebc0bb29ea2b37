//! Cuts a stream of bytes into lines, exactly: what was read can be put together again.

/// The longest line that is kept in one piece, in bytes. A longer one is cut: most lines are shorter
/// than a terminal is wide, and a pipe's buffer holds eight of these.
pub const MAX_LINE_BYTES: usize = 8 << 10;

/// Cuts the bytes of one pipe into lines of at most [`MAX_LINE_BYTES`].
///
/// Each line is given to a closure as `(bytes, partial)`, without its end. `partial` is true when no
/// line end followed. The pieces, each with `\n` where it is not partial, are the bytes that came in.
#[derive(Debug, Default)]
pub struct LineSplitter {
    /// The begun line. Its memory is given back when the line ends: most pipes are idle.
    pending: Vec<u8>,
}

impl LineSplitter {
    /// Takes bytes as they were read and gives out the lines that they end.
    pub fn push(&mut self, mut bytes: &[u8], mut line: impl FnMut(&[u8], bool)) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (head, rest) = bytes.split_at(end);
            let head = self.cut_long(head, &mut line);
            if self.pending.is_empty() {
                line(head, false);
            } else {
                self.pending.extend_from_slice(head);
                line(&self.pending, false);
                self.pending = Vec::new();
            }
            bytes = rest.get(1..).unwrap_or_default();
        }
        let rest = self.cut_long(bytes, &mut line);
        self.pending.extend_from_slice(rest);
    }

    /// Gives out a line that was begun and has not ended, as a partial one: the pipe has ended, or was
    /// quiet for so long that readers should see what there is.
    pub fn flush(&mut self, mut line: impl FnMut(&[u8], bool)) {
        if !self.pending.is_empty() {
            line(&self.pending, true);
            self.pending = Vec::new();
        }
    }

    /// Whether a line was begun and has not ended.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Gives out full pieces until what is pending and `bytes` together fit one piece; answers the
    /// rest of `bytes`. A line of exactly the maximum stays whole: its end may come next.
    fn cut_long<'b>(
        &mut self,
        mut bytes: &'b [u8],
        line: &mut impl FnMut(&[u8], bool),
    ) -> &'b [u8] {
        while self.pending.len() + bytes.len() > MAX_LINE_BYTES {
            let (head, rest) = bytes.split_at(MAX_LINE_BYTES - self.pending.len());
            if self.pending.is_empty() {
                line(head, true);
            } else {
                self.pending.extend_from_slice(head);
                line(&self.pending, true);
                self.pending = Vec::new();
            }
            bytes = rest;
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines(chunks: &[Vec<u8>]) -> Vec<(Vec<u8>, bool)> {
        let mut splitter = LineSplitter::default();
        let mut out = Vec::new();
        for chunk in chunks {
            splitter.push(chunk, |data, partial| out.push((data.to_vec(), partial)));
        }
        splitter.flush(|data, partial| out.push((data.to_vec(), partial)));
        assert!(!splitter.is_partial());
        out
    }

    fn rebuilt(lines: &[(Vec<u8>, bool)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (data, partial) in lines {
            bytes.extend_from_slice(data);
            if !partial {
                bytes.push(b'\n');
            }
        }
        bytes
    }

    #[test]
    fn a_line_split_over_reads_comes_out_once() {
        let out = lines(&[b"he".to_vec(), b"llo\nwor".to_vec(), b"ld".to_vec()]);
        assert_eq!(out, [(b"hello".to_vec(), false), (b"world".to_vec(), true)]);
    }

    #[test]
    fn a_line_of_the_greatest_length_stays_whole() {
        let mut bytes = vec![b'x'; MAX_LINE_BYTES];
        bytes.push(b'\n');
        assert_eq!(lines(&[bytes]), [(vec![b'x'; MAX_LINE_BYTES], false)]);
    }

    #[test]
    fn a_longer_line_is_cut() {
        let out = lines(&[vec![b'x'; MAX_LINE_BYTES + 1], b"y\n".to_vec()]);
        assert_eq!(out, [(vec![b'x'; MAX_LINE_BYTES], true), (b"xy".to_vec(), false)]);
    }

    proptest! {
        #[test]
        fn what_was_read_can_be_put_together_again(
            chunks in proptest::collection::vec(
                prop_oneof![
                    proptest::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..64),
                    (0usize..2 * MAX_LINE_BYTES + 2).prop_map(|length| vec![b'x'; length]),
                ],
                0..12,
            )
        ) {
            let out = lines(&chunks);
            prop_assert_eq!(rebuilt(&out), chunks.concat());
            prop_assert!(out.iter().all(|(data, _)| data.len() <= MAX_LINE_BYTES));
            prop_assert!(out.iter().all(|(data, _)| !data.contains(&b'\n')));
        }
    }
}
