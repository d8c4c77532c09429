//! The recipients of each kind of event.

use crate::support::{Client, Server, Source};

/// Starts a server with users 1, 2 and 3, and a source.
fn three_users() -> (Server, [Client; 3], Source) {
    let server = Server::start(&[]);
    let clients = [1, 2, 3].map(|user| Client::connect(&server, user));
    let source = Source::connect(&server);
    (server, clients, source)
}

/// Asserts that each user receives its lines, and nothing else before the broadcast `marker`.
#[track_caller]
fn each_receives(clients: &mut [Client; 3], lines: [&[&str]; 3], marker: &str) {
    for (client, lines) in clients.iter_mut().zip(lines) {
        client.receives(lines);
        client.receives(&[marker]);
    }
}

#[test]
fn a_follow_is_told_to_the_followed_user_only() {
    let (_server, mut clients, mut source) = three_users();
    source.sends_lines(&["1|F|1|2", "2|B"]);
    each_receives(&mut clients, [&[], &["1|F|1|2"], &[]], "2|B");
}

#[test]
fn an_unfollow_is_told_to_nobody() {
    let (_server, mut clients, mut source) = three_users();
    source.sends_lines(&["1|F|1|2", "2|U|1|2", "3|B"]);
    each_receives(&mut clients, [&[], &["1|F|1|2"], &[]], "3|B");
}

#[test]
fn a_broadcast_is_told_to_every_connected_client() {
    let (_server, mut clients, mut source) = three_users();
    source.sends_lines(&["1|B"]);
    each_receives(&mut clients, [&[], &[], &[]], "1|B");
}

#[test]
fn a_private_message_is_told_to_its_addressee_only() {
    let (_server, mut clients, mut source) = three_users();
    source.sends_lines(&["1|P|2|3", "2|P|3|3", "3|B"]);
    each_receives(&mut clients, [&[], &[], &["1|P|2|3", "2|P|3|3"]], "3|B");
}

#[test]
fn a_status_update_is_told_to_the_followers_of_that_moment() {
    let (_server, mut clients, mut source) = three_users();
    source.sends_lines(&[
        "1|S|3", "2|F|1|3", "3|F|2|3", "4|S|3", "5|U|1|3", "6|S|3", "7|F|3|1", "8|S|1", "9|B",
    ]);
    let expected: [&[&str]; 3] =
        [&["4|S|3", "7|F|3|1"], &["4|S|3", "6|S|3"], &["2|F|1|3", "3|F|2|3", "8|S|1"]];
    each_receives(&mut clients, expected, "9|B");
}

#[test]
fn following_twice_or_oneself_and_unfollowing_nobody_change_nothing_but_are_forwarded() {
    let (_server, mut clients, mut source) = three_users();
    source.sends_lines(&[
        "1|F|1|2", "2|F|1|2", "3|S|2", "4|U|1|2", "5|U|1|2", "6|S|2", "7|U|3|1", "8|F|3|3",
        "9|S|3", "10|B",
    ]);
    let expected: [&[&str]; 3] = [&["3|S|2"], &["1|F|1|2", "2|F|1|2"], &["8|F|3|3", "9|S|3"]];
    each_receives(&mut clients, expected, "10|B");
}

#[test]
fn a_follow_counts_whether_or_not_the_users_are_connected() {
    let (server, mut clients, mut source) = three_users();
    source.sends_lines(&["1|F|77|88", "2|S|88", "3|B"]);
    each_receives(&mut clients, [&[], &[], &[]], "3|B");
    let mut follower = Client::connect(&server, 77);
    source.sends_lines(&["4|S|88", "5|B"]);
    follower.receives(&["4|S|88", "5|B"]);
}

#[test]
fn nothing_is_kept_for_users_who_are_not_connected() {
    let (server, mut clients, mut source) = three_users();
    source.sends_lines(&["1|P|1|77", "2|F|1|77", "3|B"]);
    each_receives(&mut clients, [&[], &[], &[]], "3|B");
    let mut newcomer = Client::connect(&server, 77);
    source.sends_lines(&["4|B"]);
    newcomer.receives(&["4|B"]);
}

#[test]
fn events_keep_their_bytes_leading_zeros_too() {
    let server = Server::start(&["--first-sequence", "12"]);
    let mut client = Client::connect(&server, 7);
    let mut source = Source::connect(&server);
    source.sends("0012|B\n013|P|001|007\r\n00000000000000000014|F|1|0000000000000000007\n15|B\r\n");
    client.receives(&["0012|B", "013|P|001|007", "00000000000000000014|F|1|0000000000000000007"]);
    client.receives(&["15|B"]);
}

#[test]
fn users_are_any_64_bit_numbers() {
    let server = Server::start(&[]);
    let mut largest = Client::connect(&server, u64::MAX);
    let mut zero = Client::connect(&server, 0);
    let mut source = Source::connect(&server);
    source.sends_lines(&["1|F|0|18446744073709551615", "2|S|18446744073709551615", "3|B"]);
    largest.receives(&["1|F|0|18446744073709551615", "3|B"]);
    zero.receives(&["2|S|18446744073709551615", "3|B"]);
}
