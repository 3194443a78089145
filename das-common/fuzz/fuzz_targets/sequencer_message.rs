#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| das_common_fuzz::run("sequencer_message", data));
