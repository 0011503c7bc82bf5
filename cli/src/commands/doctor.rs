//! `tandem doctor`
use crate::args::DoctorArgs;
use crate::config::Dirs;
use crate::exit::Exit;
use anyhow::Result;
pub(crate) fn run(_dirs: &Dirs, _args: &DoctorArgs) -> Result<Exit> {
    Ok(Exit::Done)
}
