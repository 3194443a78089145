//! Options from files, environment and command line.
