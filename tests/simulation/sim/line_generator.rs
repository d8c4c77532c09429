//! Generator of the sources' lines.

use std::collections::BTreeMap;

use super::random::Random;

/// Generates event lines by sequence: the same line whenever a sequence is repeated.
pub(crate) struct LineGenerator {
    random: Random,
    users: Vec<u64>,
    lines: BTreeMap<u64, String>,
    /// One in this many lines is faulty; 0 for none.
    error_rate: usize,
    /// Whether a repeated sequence may carry another event.
    may_contradict: bool,
    max_line_bytes: usize,
}

impl LineGenerator {
    pub(crate) fn new(
        random: Random,
        users: Vec<u64>,
        error_rate: usize,
        may_contradict: bool,
        max_line_bytes: usize,
    ) -> LineGenerator {
        LineGenerator {
            random,
            users,
            lines: BTreeMap::new(),
            error_rate,
            may_contradict,
            max_line_bytes,
        }
    }

    /// Returns the lines of these sequences, shuffled, some repeated and some left out.
    pub(crate) fn generate(&mut self, mut sequences: Vec<u64>) -> Vec<u8> {
        if self.random.one_in(2) {
            self.random.shuffle(&mut sequences);
        } else {
            for pair in sequences.chunks_mut(3) {
                self.random.shuffle(pair);
            }
        }
        let mut stream = Vec::new();
        for sequence in sequences {
            for line in self.lines_for(sequence) {
                stream.extend(line);
                stream.extend(*self.random.pick(&[&b"\n"[..], b"\n", b"\r\n"]));
            }
        }
        stream
    }

    fn lines_for(&mut self, sequence: u64) -> Vec<Vec<u8>> {
        let line = self.line(sequence).into_bytes();
        if !self.random.one_in(self.error_rate) {
            return vec![line];
        }
        let void = self.malformed(sequence);
        match self.random.below(8) {
            0 => vec![],
            1 => vec![line.clone(), line],
            2 => vec![void],
            3 => vec![void, line],
            4 => vec![line, void],
            5 => vec![self.garbage(), line],
            6 if self.may_contradict => vec![line, self.random_event_line(sequence).into_bytes()],
            _ => vec![self.garbage()],
        }
    }

    fn line(&mut self, sequence: u64) -> String {
        if let Some(line) = self.lines.get(&sequence) {
            return line.clone();
        }
        let line = self.random_event_line(sequence);
        self.lines.insert(sequence, line.clone());
        line
    }

    fn random_event_line(&mut self, sequence: u64) -> String {
        let number =
            if self.random.one_in(10) { format!("0{sequence}") } else { sequence.to_string() };
        let number = if number.len() > 20 { sequence.to_string() } else { number };
        let [one, other] = [(); 2].map(|()| *self.random.pick(&self.users));
        match self.random.below(10) {
            0..3 => format!("{number}|F|{one}|{other}"),
            3 => format!("{number}|U|{one}|{other}"),
            4..6 => format!("{number}|B"),
            6..8 => format!("{number}|P|{one}|{other}"),
            _ => format!("{number}|S|{one}"),
        }
    }

    /// Returns a malformed line with a readable sequence.
    fn malformed(&mut self, sequence: u64) -> Vec<u8> {
        // The end of this line, parsed alone, would be an event.
        let long = format!("{}|B", "9".repeat(self.max_line_bytes));
        let forms =
            ["", "|", "|b", "|X|1|10", "|B|2", "|F|12", "|P|-1|2", "|U|12|9.456", "|S|23|23"];
        match self.random.below(forms.len() + 1) {
            form if form < forms.len() => format!("{sequence}{}", forms[form]).into_bytes(),
            _ => format!("{sequence}|B|{long}").into_bytes(),
        }
    }

    /// Returns a line without a readable sequence.
    fn garbage(&mut self) -> Vec<u8> {
        let long = format!("{}|B", "7".repeat(self.max_line_bytes + 1));
        let forms =
            ["", "abcd", "|", "|||", "|B", "A3|P|32|56", "-1|B", "+1|B", "99999999999999999999|B"];
        match self.random.below(forms.len() + 2) {
            form if form < forms.len() => forms[form].into(),
            form if form == forms.len() => long.into_bytes(),
            _ => b"18446744073709551615|B\0\xff\r".to_vec(),
        }
    }
}
