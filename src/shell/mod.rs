//! The only impure part: sockets, files, clocks, threads, signals. It turns what the system says
//! into inputs of the machines, and their outputs into system calls. It decides nothing.

mod log_limit;
pub mod net;
