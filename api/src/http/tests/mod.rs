//! The router in process, and real sockets where bytes matter.

mod access;
mod domains;
mod hostile;
mod openapi;
mod refusals;
mod remote;
mod rig;
mod storage;
mod storm;
mod tuning;
