//! The command line of `eventserver journal`.

use std::path::PathBuf;

use argh::FromArgs;

/// Checks, prints or repairs the journal of a server that does not run.
#[derive(FromArgs, Debug, PartialEq, Eq)]
#[argh(
    name = "journal",
    help_triggers("-h", "--help"),
    example = "{command_name} verify /var/lib/eventserver\n\
               {command_name} dump /var/lib/eventserver > stream.events\n\
               loadgen replay stream.events --spawn",
    error_code(0, "All is right."),
    error_code(1, "A file cannot be read or written, or a server uses the directory."),
    error_code(2, "The arguments are wrong."),
    error_code(3, "The journal is damaged.")
)]
pub(super) struct Arguments {
    #[argh(subcommand)]
    pub(super) command: Command,
}

#[derive(FromArgs, Debug, PartialEq, Eq)]
#[argh(subcommand)]
pub(super) enum Command {
    Verify(Verify),
    Dump(Dump),
    Repair(Repair),
}

/// Check all files, and say what a server would start from. Changes nothing.
#[derive(FromArgs, Debug, PartialEq, Eq)]
#[argh(
    subcommand,
    name = "verify",
    help_triggers("-h", "--help"),
    note = "Prints a line for each file, with its sequences and its length, then the totals, the awaited\n\
            sequence and the state hash. An incomplete write at the end is what a crash leaves: it is\n\
            no damage, and the next start cuts it off.\n\n\
            Damage before the newest snapshot does not hinder a start, but the exit status is 3."
)]
pub(super) struct Verify {
    /// the directory of the journal (--data-dir of the server)
    #[argh(positional, arg_name = "DIR")]
    pub(super) directory: PathBuf,
}

/// Print the events in order, as a stream for `loadgen replay`. Changes nothing.
#[derive(FromArgs, Debug, PartialEq, Eq)]
#[argh(
    subcommand,
    name = "dump",
    help_triggers("-h", "--help"),
    note = "A new server that is sent these lines delivers the same events, and reaches the same state\n\
            hash. Its --first-sequence has to be that of the first line.\n\n\
            - A sequence that was void or given up is printed as SEQUENCE|void, which is malformed: the\n  \
              server counts it as void again.\n\
            - After a reset the sequence starts anew. Only the events after the last reset are printed,\n  \
              because one stream cannot contain two.\n\
            - If the first segments were removed, because snapshots replaced them, the follows of the\n  \
              oldest snapshot are printed first, as events with the sequences just before.\n\n\
            What was left out or added is said on standard error."
)]
pub(super) struct Dump {
    /// the directory of the journal (--data-dir of the server)
    #[argh(positional, arg_name = "DIR")]
    pub(super) directory: PathBuf,
}

/// Cut a corrupt journal at the first bad batch, so that a server starts from what is before it.
#[derive(FromArgs, Debug, PartialEq, Eq)]
#[argh(
    subcommand,
    name = "repair",
    help_triggers("-h", "--help"),
    note = "Says what is lost. What is cut off stays in the directory, in files that end in .cut-OFFSET\n\
            and .set-aside. A journal from which a server can start is left as it is, and so is one of\n\
            which nothing can be restored (exit status 3).\n\n\
            Sources that speak SYNC send again what they have kept from the awaited sequence on. Clients\n\
            may receive again what they have received since."
)]
pub(super) struct Repair {
    /// only say what would be done
    #[argh(switch)]
    pub(super) dry_run: bool,
    /// the directory of the journal (--data-dir of the server)
    #[argh(positional, arg_name = "DIR")]
    pub(super) directory: PathBuf,
}
