//! Inputs that are nearly right: those of a corpus with a few changes.

/// Inputs do not grow beyond this: longer ones find no more, and take longer.
const MAX_LENGTH: usize = 4096;
/// So many changes are made to an input, at most.
const MAX_CHANGES: u64 = 5;
/// Numbers at which something changes, in lengths and in text.
const EDGES: [u8; 14] = [0, 1, 4, 5, 0x7f, 0x80, 0xff, b'/', b'.', b'-', b'\n', b'"', b' ', 0x0a];

/// Makes inputs, always the same ones from the same seed and corpus.
pub(crate) struct Mutator<'a> {
    corpus: &'a [Vec<u8>],
    state: u64,
}

impl<'a> Mutator<'a> {
    /// For a corpus, which is not empty.
    pub(crate) fn new(seed: u64, corpus: &'a [Vec<u8>]) -> Self {
        Self { corpus, state: seed }
    }

    /// The next input.
    pub(crate) fn next(&mut self) -> Vec<u8> {
        let mut input = self.any_of_corpus().to_vec();
        for _ in 0..=self.below(MAX_CHANGES) {
            self.change(&mut input);
        }
        input.truncate(MAX_LENGTH);
        input
    }

    /// SplitMix64 (Steele, Lea, Flood 2014).
    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random() % bound
    }

    /// A place in something of this length, its end included.
    fn place(&mut self, length: usize) -> usize {
        self.below(length as u64 + 1) as usize
    }

    /// A part of something of this length.
    fn part(&mut self, length: usize) -> std::ops::Range<usize> {
        let (a, b) = (self.place(length), self.place(length));
        let from = a.min(b);
        // Short parts are moved more often than long ones.
        let most = if self.below(4) == 0 { length } else { 8 };
        from..a.max(b).min(from + most)
    }

    fn any_of_corpus(&mut self) -> &'a [u8] {
        &self.corpus[self.place(self.corpus.len() - 1)]
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let place = self.place(input.len().saturating_sub(1));
        match self.below(8) {
            0 => self.with(input, place, |_, byte| byte),
            1 => self.with(input, place, |byte, random| byte ^ (1 << (random % 8))),
            2 => self
                .with(input, place, |byte, random| byte.wrapping_add(random % 16).wrapping_sub(8)),
            3 => self.with(input, place, |_, random| EDGES[usize::from(random) % EDGES.len()]),
            4 => drop(input.drain(self.part(input.len()))),
            5 => {
                let piece = input[self.part(input.len())].to_vec();
                self.insert(input, &piece);
            }
            6 => {
                let other = self.any_of_corpus();
                let piece = &other[self.part(other.len())];
                self.insert(input, piece);
            }
            _ => {
                // The beginning of this one, the end of another.
                let other = self.any_of_corpus();
                let from = self.place(other.len());
                input.truncate(place);
                input.extend(&other[from..]);
            }
        }
    }

    fn with(&mut self, input: &mut [u8], place: usize, change: fn(u8, u8) -> u8) {
        let random = self.random() as u8;
        if let Some(byte) = input.get_mut(place) {
            *byte = change(*byte, random);
        }
    }

    fn insert(&mut self, input: &mut Vec<u8>, piece: &[u8]) {
        let place = self.place(input.len());
        input.splice(place..place, piece.iter().copied());
    }
}
