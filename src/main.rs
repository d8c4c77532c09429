//! The `eventserver` program.
use eventserver::config::Config;
use eventserver::server::Server;

fn main() {
    let config = Config::default();
    let _ = simplelog::WriteLogger::init(
        config.log_level,
        simplelog::Config::default(),
        std::io::stderr(),
    );
    let server = Server::bind(&config).unwrap();
    println!(
        "eventserver ready: events on {}, clients on {}",
        server.event_address(),
        server.client_address()
    );
    server.run().unwrap();
}
