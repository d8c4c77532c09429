//! The addresses of listeners.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde_json::Value;

use super::value::{Integer, NONE, SettingType, number_or_text};

/// The form of a listener's address.
const FORM: &str = "[ADDRESS:]PORT with an IP address or localhost, and a port from 0 to 65535, such as \
                    9090, 0.0.0.0:9090 or [::]:9090";

/// The one host name that is known without a resolver. It is always 127.0.0.1.
const LOCALHOST: &str = "localhost";

/// Parses the address of a listener. A port without an address, as `9090` or `:9090`, is one of 127.0.0.1,
/// so that a listener is opened to other machines only by an address.
fn parse_address(text: &str) -> Option<SocketAddr> {
    let port = text.strip_prefix(LOCALHOST).unwrap_or(text);
    let port = match port.strip_prefix(':') {
        Some(port) => Some(port),
        None => (port.len() == text.len()).then_some(text),
    };
    let port = port.filter(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
    match port.and_then(|port| port.parse().ok()) {
        Some(port) => Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
        None => text.parse().ok(),
    }
}

/// The address of a listener. Flag and variable set address and port, the key only the port.
pub(super) struct ListenPort;

impl SettingType<SocketAddr> for ListenPort {
    fn read_text(&self, text: &str) -> Result<SocketAddr, String> {
        parse_address(text).ok_or_else(|| format!("must be {FORM}"))
    }

    fn read_json(&self, value: &Value, current: &SocketAddr) -> Result<SocketAddr, String> {
        let port = Integer(0..=u16::MAX).read_json(value, &current.port())?;
        let mut address = *current;
        address.set_port(port);
        Ok(address)
    }

    fn print_json(&self, setting: &SocketAddr) -> Option<Value> {
        Some(setting.port().into())
    }

    fn show(&self, setting: &SocketAddr) -> String {
        setting.to_string()
    }
}

/// The IP address of a listener, without its port.
pub(super) struct ListenAddress;

impl SettingType<SocketAddr> for ListenAddress {
    fn read_text(&self, text: &str) -> Result<SocketAddr, String> {
        if text == LOCALHOST {
            return Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        }
        // Only socket addresses parse brackets and a zone, as in `fe80::1%2`.
        [format!("{text}:0"), format!("[{text}]:0")]
            .iter()
            .find_map(|address| address.parse().ok())
            .ok_or_else(|| {
                "must be an IP address such as \"127.0.0.1\", \"0.0.0.0\" or \"::\", or \
                 \"localhost\""
                    .to_owned()
            })
    }

    fn read_json(&self, value: &Value, current: &SocketAddr) -> Result<SocketAddr, String> {
        let mut address = self.read_text(value.as_str().unwrap_or_default())?;
        address.set_port(current.port());
        Ok(address)
    }

    fn print_json(&self, setting: &SocketAddr) -> Option<Value> {
        let zone = match setting {
            SocketAddr::V6(address) if address.scope_id() != 0 => {
                format!("%{}", address.scope_id())
            }
            _ => String::new(),
        };
        let address: IpAddr = setting.ip();
        Some(format!("{address}{zone}").into())
    }

    fn show(&self, setting: &SocketAddr) -> String {
        setting.ip().to_string()
    }
}

/// The address of a listener that may be absent.
pub(super) struct OptionalListen;

impl SettingType<Option<SocketAddr>> for OptionalListen {
    fn read_text(&self, text: &str) -> Result<Option<SocketAddr>, String> {
        match text {
            NONE => Ok(None),
            _ => match parse_address(text) {
                Some(address) => Ok(Some(address)),
                None => Err(format!("must be {NONE} or {FORM}")),
            },
        }
    }

    fn read_json(
        &self,
        value: &Value,
        _current: &Option<SocketAddr>,
    ) -> Result<Option<SocketAddr>, String> {
        self.read_text(&number_or_text(value))
    }

    fn print_json(&self, setting: &Option<SocketAddr>) -> Option<Value> {
        setting.map(|address| address.to_string().into())
    }

    fn show(&self, setting: &Option<SocketAddr>) -> String {
        setting.map_or_else(|| NONE.to_owned(), |address| address.to_string())
    }
}
