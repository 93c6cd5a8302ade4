//! Tests of the whole format. The fixtures are made up after the documented format.
