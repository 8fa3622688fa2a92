@0xb3c5ad4f1c6e9d27;

struct Small {
  id @0 :Int64;
  name @1 :Text;
  value @2 :Float64;
  ok @3 :Bool;
  tags @4 :List(Text);
}

interface Sink {
  item @0 (value :Small) -> stream;
}

interface Callback {
  echo @0 (value :Small) -> (value :Small);
}

interface Bench {
  echo @0 (value :Small) -> (value :Small);
  echoBytes @1 (data :Data) -> (data :Data);
  repeat @2 (value :Small, sink :Sink) -> ();
  visit @3 (value :Small, count :Int32, callback :Callback) -> ();
}
