//! Framing and parsing of lines, valid and malformed.

use std::iter;

use crate::support::{Client, Server, Source};

/// Starts a server with one client and one source.
fn one_user(user: u64, flags: &[&str]) -> (Server, Client, Source) {
    let server = Server::start(flags);
    let client = Client::connect(&server, user);
    let source = Source::connect(&server);
    (server, client, source)
}

#[test]
fn valid_lines_are_forwarded_each_to_its_user() {
    let valid = [
        ("666|F|60|50", 50, "666"),
        ("542532|B", 1, "542532"),
        ("43|P|32|56", 56, "43"),
        ("1234567890|F|1234567890|1234567891", 1_234_567_891, "1234567890"),
        ("0012|B", 1, "12"),
    ];
    for (line, user, sequence) in valid {
        let (_server, mut client, mut source) = one_user(user, &["--first-sequence", sequence]);
        source.sends_lines(&[line]);
        client.receives(&[line]);
    }
}

#[test]
fn valid_lines_without_audience_are_applied() {
    for (line, first) in [("1|U|12|9", 1), ("634|S|32", 634), ("12|S|23", 12)] {
        let (server, mut client, mut source) =
            one_user(1, &["--first-sequence", &first.to_string()]);
        let marker = format!("{}|B", first + 1);
        source.sends_lines(&[line, &marker]);
        client.receives(&[&marker]);
        assert_eq!((server.stat("malformed"), server.stat("events")), (0, 2), "{line}");
    }
}

/// Remainders that make a line malformed after a readable sequence.
const VOID_LINES: [&str; 24] = [
    "|F",
    "|F|12",
    "|F||2",
    "|F|2|",
    "|U|2|3|4",
    "|P|32|56|",
    "|F|60||50",
    "|X|1|10",
    "|b",
    "|B|2",
    "|S|",
    "|S|23|23",
    "|",
    "",
    "|P|-1|2",
    "|U|12|9.456",
    "|S|18446744073709551616",
    "|S|1 ",
    "|P|1|2x",
    "| B",
    "|BB",
    "|S|123456789012345678901",
    "||B",
    "|B|",
];

#[test]
fn a_malformed_line_with_a_sequence_is_passed_over_in_its_turn() {
    let (server, mut client, mut source) = one_user(1, &[]);
    for (number, rest) in VOID_LINES.iter().enumerate() {
        let sequence = 2 * number + 1;
        let marker = format!("{}|B", sequence + 1);
        source.sends_lines(&[&format!("{sequence}{rest}"), &marker]);
        client.receives(&[&marker]);
    }
    let count = VOID_LINES.len() as u64;
    assert_eq!((server.stat("malformed"), server.stat("void")), (count, count));
}

#[test]
fn bytes_that_are_no_ascii_digits_make_a_field_malformed() {
    let (server, mut client, mut source) = one_user(1, &[]);
    source.sends(b"1|S|\xd9\xa1\n2|S|\xff\n3|S|1\0\n4|B\r\r\n5|B\n");
    client.receives(&["5|B"]);
    assert_eq!((server.stat("malformed"), server.stat("void")), (4, 4));
}

#[test]
fn a_malformed_line_without_a_sequence_is_counted_and_ignored() {
    let lines = [
        "",
        "abcd",
        "|",
        "|||",
        "|B",
        "A3|P|32|56",
        "-1|B",
        "+1|B",
        "99999999999999999999|B",
        "18446744073709551615|B",
        " 1|B",
        "1 |B",
        "000000000000000000001|B",
    ];
    let (server, mut client, mut source) = one_user(1, &[]);
    for (number, line) in lines.iter().enumerate() {
        let marker = format!("{}|B", number + 1);
        source.sends_lines(&[line, &marker]);
        client.receives(&[&marker]);
    }
    assert_eq!((server.stat("malformed"), server.stat("void")), (lines.len() as u64, 0));
}

#[test]
fn a_malformed_line_is_shown_escaped_and_cut_in_the_log() {
    let (server, _client, mut source) = one_user(1, &[]);
    source.sends(format!("\x1b[31m{}\n", "x".repeat(100)));
    let line = server.logs(&["malformed line from source", &source.address().to_string()]);
    assert!(line.contains(&format!("\"\\x1b[31m{}\"", "x".repeat(59))), "{line}");
}

#[test]
fn a_line_may_be_as_long_as_the_limit_and_no_longer() {
    let (server, mut client, mut source) = one_user(7, &["--max-line-bytes", "64"]);
    let longest = format!("{:020}|P|{:020}|{:020}", 1, 2, 7);
    assert_eq!(longest.len(), 64);
    let longer = format!("2|{}", "B".repeat(63));
    source.sends(format!("{longest}\r\n{longer}\n3|B\n"));
    client.receives(&[&longest, "3|B"]);
    assert_eq!((server.stat("malformed"), server.stat("void")), (1, 1));
}

#[test]
fn an_over_long_line_is_discarded_up_to_its_end_and_its_sequence_is_void() {
    let (server, mut client, mut source) = one_user(7, &[]);
    let filler = "9".repeat(100_000);
    source.sends(format!("1|S|{filler}\n2|B\n{filler}\n|{filler}\r\n3|B\n"));
    client.receives(&["2|B", "3|B"]);
    assert_eq!((server.stat("malformed"), server.stat("void")), (3, 1));
}

#[test]
fn a_short_stream_may_be_split_anywhere_into_two_writes() {
    let (server, mut client, mut source) = one_user(7, &[]);
    let rest = ["|P|1|7\r\n", "|B\n", "|X|9\r\n", "|F|8|07\n", "\n", "|B\r\n"];
    let length = lines_from(1, &rest).len();
    for split in 1..length {
        let first = (split - 1) * (1 + rest.len()) + 1;
        let stream = lines_from(first + 1, &rest);
        let (one, other) = stream.split_at(split);
        // The server has read the first part once the broadcast before it has arrived.
        let marker = format!("{first:04}|B");
        source.sends(format!("{marker}\n{one}"));
        client.receives(&[&marker]);
        source.sends(other);
        client.receives(&events_among(&stream));
    }
    assert_eq!(server.stat("malformed"), 2 * (length as u64 - 1));
}

/// Returns a line for each of `rest`, with sequences from `first` on as prefixes.
fn lines_from(first: usize, rest: &[&str]) -> String {
    iter::zip(first.., rest).map(|(sequence, rest)| format!("{sequence:04}{rest}")).collect()
}

fn events_among(stream: &str) -> Vec<&str> {
    stream.lines().filter(|line| line.len() > 4 && !line.contains('X')).collect()
}
