//! The page for people: one file without references to others.

use std::borrow::Cow;

use super::response::Response;

/// The page.
const PAGE: &str = include_str!("page.html");

/// The header fields of the page. Only its own style and script may run, known by their SHA-256, and
/// it may fetch from this server only.
const FIELDS: &str = concat!(
    "Content-Security-Policy: default-src 'none'; connect-src 'self'; img-src data:; ",
    "style-src 'sha256-VJhnwY3n1G1r40k3KItotx+keGxqqKTnqRr2oCXJack='; ",
    "script-src 'sha256-8xIS/CJpicNNB7aUg/gkClQU5nLB/nk5hjvdw14XEXs='; ",
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n",
    "Cross-Origin-Resource-Policy: same-origin\r\n",
    "Referrer-Policy: no-referrer\r\n",
);

/// Returns the page.
pub(super) fn response() -> Response {
    Response {
        status: "200 OK",
        content_type: "text/html; charset=utf-8",
        fields: Cow::Borrowed(FIELDS),
        body: Cow::Borrowed(PAGE.as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    /// Returns what is between the only start tag `tag` and its end tag.
    fn element(tag: &str) -> &'static str {
        let start = format!("<{tag}>");
        let mut parts = PAGE.split(start.as_str());
        let after = parts.nth(1).unwrap();
        assert_eq!(parts.next(), None, "one {tag} only");
        after.split(&format!("</{tag}>")).next().unwrap()
    }

    fn base64(bytes: &[u8]) -> String {
        const DIGITS: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let digits_of = |group: &[u8]| {
            let bits = group.iter().fold(0_u32, |bits, &byte| bits << 8 | u32::from(byte))
                << (8 * (3 - group.len()));
            let digits = (0..=group.len())
                .map(move |index| char::from(DIGITS[(bits >> (18 - 6 * index)) as usize & 63]));
            digits.chain(std::iter::repeat_n('=', 3 - group.len())).collect::<String>()
        };
        bytes.chunks(3).map(digits_of).collect()
    }

    #[test]
    fn the_policy_allows_exactly_the_style_and_the_script_of_the_page() {
        assert_eq!(base64(b"any carnal pleas"), "YW55IGNhcm5hbCBwbGVhcw==");
        for tag in ["style", "script"] {
            let hash = base64(&Sha256::digest(element(tag)));
            let directive = format!("{tag}-src 'sha256-{hash}'; ");
            assert!(FIELDS.contains(&directive), "page.rs has to allow {directive}");
        }
    }

    #[test]
    fn the_page_refers_to_nothing_outside_and_inserts_no_markup() {
        let without_namespace = PAGE.replace("http://www.w3.org/2000/svg", "");
        for forbidden in [
            "http:",
            "https:",
            "//cdn",
            "@import",
            "innerHTML",
            "outerHTML",
            "insertAdjacent",
            "document.write",
            "eval(",
            "style=\"",
            "onclick=",
            "onload=",
        ] {
            assert!(!without_namespace.contains(forbidden), "{forbidden}");
        }
    }
}
