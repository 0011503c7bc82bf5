//! `tandem stop`: drain a module, tell its peer, unmount, and end its daemon.

use anyhow::Result;
use tandem_repl::control::Request;

use super::act;
use crate::args::ActionArgs;
use crate::config::Dirs;
use crate::exit::Exit;

pub(crate) fn run(dirs: &Dirs, args: &ActionArgs) -> Result<Exit> {
    act(dirs, args, &Request::Stop)
}
