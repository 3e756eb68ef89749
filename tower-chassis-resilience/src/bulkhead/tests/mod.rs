mod ends;
mod hammer;
mod model;
mod service;
mod waiting;
