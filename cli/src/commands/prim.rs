//! `tandem prim`: serve a module from this node.

use anyhow::Result;
use tandem_repl::control::Request;

use super::act;
use crate::args::ActionArgs;
use crate::config::Dirs;
use crate::exit::Exit;

pub(crate) fn run(dirs: &Dirs, args: &ActionArgs, force: bool) -> Result<Exit> {
    act(dirs, args, &Request::Prim { force })
}
