//! The operators' page in a real browser.
//!
//! These tests are ignored without one, and run by `.ci/run`.

use std::thread;
use std::time::Duration;

use crate::support::{Browser, Client, Http, Server, Source, messages};

const ADMIN: [&str; 2] = ["--admin-listen", "0"];

fn open(server: &Server, width: u32) -> Browser {
    let browser = Browser::open(&format!("http://{}/", server.admin_address()), width, 900);
    browser.wait_until("document.getElementById('state').textContent === 'running'");
    browser
}

/// The text of an element.
fn text(id: &str) -> String {
    format!("document.getElementById('{id}').innerText")
}

#[test]
#[ignore = "needs Chromium and ChromeDriver"]
fn curves_move_under_load_and_nothing_is_reported_on_the_console() {
    let server = Server::start(&ADMIN);
    let browser = open(&server, 1400);
    let _client = Client::connect(&server, 7);
    let mut source = Source::connect(&server);
    let sending = thread::spawn(move || {
        for batch in 0..400 {
            source.sends(messages(batch * 100 + 1..batch * 100 + 101, 7));
            thread::sleep(Duration::from_millis(10));
        }
        source
    });
    let drawn = "const canvas = document.querySelector('canvas'); return canvas.toDataURL()";
    browser.wait_until("/[1-9]/.test(document.querySelector('output').innerText)");
    let before = browser.run(drawn);
    browser.wait_until("samples.filter(sample => sample.rates && sample.rates[0] > 0).length >= 3");
    assert_ne!(browser.run(drawn), before, "the curve moves");
    let coloured = "const c = document.querySelector('canvas');
        const pixels = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
        return pixels.some((value, index) => index % 4 === 3 && value > 200)";
    assert_eq!(browser.run(coloured), true, "a line is drawn");
    sending.join().unwrap();
    browser.wait_until(&format!("{}.startsWith('40,001')", text("sequence")));
    browser.wait_until(&format!("{}.includes('within')", text("delay")));
    assert_eq!(browser.console(), [""; 0]);
}

#[test]
#[ignore = "needs Chromium and ChromeDriver"]
fn curves_begin_with_what_happened_before_the_page_was_opened() {
    let server = Server::start(&ADMIN);
    let is_in_history = |expected: u64| {
        let history = Http::connect(&server).gets("/history").json();
        history["applied"].as_array()?.iter().any(|count| *count == expected).then_some(())
    };
    // A rate takes a sample before the events.
    server.wait_until("a sample is there", || is_in_history(0));
    Source::connect(&server).sends(messages(1..10_001, 7));
    server.wait_until("a sample shows the events", || is_in_history(10_000));
    let browser = open(&server, 1400);
    browser.wait_until("samples.some(sample => sample.rates && sample.rates[0] > 1000)");
    browser.wait_until("samples.filter(sample => sample.rates).length >= 4");
    let ordered =
        "samples.every((sample, index) => index === 0 || sample.time > samples[index - 1].time)";
    assert_eq!(browser.run(&format!("return {ordered}")), true);
}

#[test]
#[ignore = "needs Chromium and ChromeDriver"]
fn what_peers_send_is_shown_as_text() {
    let server = Server::start(&ADMIN);
    let browser = open(&server, 1400);
    let id = "<img src=x onerror=alert(1)>";
    Client::connect(&server, id).is_closed();
    let line = "GET /<script>alert(1)</script> HTTP/1.1";
    let mut source = Source::connect(&server);
    source.sends(format!("{line}\n"));
    source.is_closed();
    browser.wait_until(&format!("{}.includes('{id}')", text("closes")));
    browser.wait_until(&format!("{}.includes('GET /<script>alert(1)</script>')", text("closes")));
    assert_eq!(browser.run("return document.querySelectorAll('main img, main script').length"), 0);
    assert_eq!(browser.console(), [""; 0]);
}

#[test]
#[ignore = "needs Chromium and ChromeDriver"]
fn gaps_pauses_and_slow_clients_are_told_in_plain_words() {
    let server = Server::start(&[&ADMIN[..], &["--client-queue-bytes", "65536"]].concat());
    let browser = open(&server, 1400);
    let notices = text("notices");
    let mut source = Source::connect(&server);
    source.sends("2|B\n3|B\n");
    browser.wait_until(&format!(
        "/Sequence 1 has been missing for .*; 2 events wait behind it/.test({notices})"
    ));
    let slow = Client::connect_slow(&server, u64::MAX);
    source.sends("1|B\n");
    let sending = source.sends_in_background(messages(4..200_001, u64::MAX));
    browser.wait_until(&format!("/Paused for .*: 1 client has a full queue/.test({notices})"));
    browser.wait_until(&format!("{}.includes('{}')", text("slow"), u64::MAX));
    browser.wait_until("document.getElementById('slow').querySelector('.fill.full') !== null");
    browser.wait_until("document.title === 'paused – eventserver'");
    drop(slow);
    browser.wait_until(&format!("{notices} === ''"));
    sending.join().unwrap();
    assert_eq!(browser.console(), [""; 0]);
}

#[test]
#[ignore = "needs Chromium and ChromeDriver"]
fn the_page_says_when_the_server_is_gone_and_comes_back_by_itself() {
    let mut server = Server::start(&ADMIN);
    let address = server.admin_address().to_string();
    let browser = open(&server, 1400);
    assert_eq!(server.stop(), Some(0));
    browser.wait_until("document.getElementById('state').textContent === 'no answer'");
    browser.wait_until(&format!("{}.includes('has not answered')", text("notices")));
    let _server = Server::start(&["--admin-listen", &address]);
    browser.wait_until("document.getElementById('state').textContent === 'running'");
    browser.wait_until(&format!("{} === ''", text("notices")));
}

#[test]
#[ignore = "needs Chromium and ChromeDriver"]
fn the_page_fits_a_phone_and_follows_the_colour_scheme() {
    let server = Server::start(&ADMIN);
    let browser = open(&server, 400);
    assert_eq!(browser.run("return document.documentElement.scrollWidth <= 400"), true);
    let ground = |scheme| {
        browser.prefers(scheme);
        browser.run("return getComputedStyle(document.body).backgroundColor")
    };
    assert_ne!(ground("light"), ground("dark"));
}
