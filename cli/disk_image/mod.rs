//! `manor image`: looking at, making, copying and mending disk images, without a daemon.

mod args;
mod check;
mod convert;
mod create;
mod info;
mod map;
mod open;
mod options;
mod progress;
mod resize;
mod size;
mod snapshot;

pub(crate) use args::Image;
pub(crate) use progress::Progress;

use crate::failure::Failure;
use crate::terminal::Terminal;

pub(crate) fn run(command: Image, terminal: &Terminal) -> Result<(), Failure> {
    match command {
        Image::Check(args) => check::check(&args, terminal),
        Image::Convert(args) => convert::convert(&args, terminal),
        Image::Create(args) => create::create(&args, terminal),
        Image::Info(args) => info::info(&args, terminal),
        Image::Map(args) => map::map(&args, terminal),
        Image::Resize(args) => resize::resize(&args, terminal),
        Image::Snapshot(command) => snapshot::snapshot(&command, terminal),
    }
}
