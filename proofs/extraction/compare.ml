(* Reads the vectors that `vectors` wrote, runs the extracted programs on their inputs, and asks for equality.

   The numbers are Zarith's rationals, and nothing is rounded. Usage: compare FILE COUNT. *)

open Programs

let rec nat_of n = if n = 0 then O else S (nat_of (n - 1))
let rec int_of = function O -> 0 | S n -> 1 + int_of n

let unused _ = failwith "this part of the program uses ring operations only"

let rationals =
  make_arithmetic Q.zero Q.one Q.add Q.sub Q.mul Q.div Q.leq Q.lt Q.equal

let ring =
  make_ops Q.zero Q.one Q.minus_inf (fun _ -> unused) Q.add Q.sub Q.mul Q.div Q.neg unused unused unused unused

(* One line: its words, and how many of them are read. *)
type line = { words : string array; mutable at : int }

let word line =
  let word = line.words.(line.at) in
  line.at <- line.at + 1;
  word

let int line = int_of_string (word line)
let number line = Q.of_string (word line)
let integer line = Z.of_string (word line)

let many count read line = Array.init count (fun _ -> read line)
let list read line = let count = int line in Array.to_list (many count read line)
let array read line = Array.of_list (list read line)
let optional read line = if int line = 0 then None else Some (read line)
let gate line = match word line with "-" -> None | n -> Some (int_of_string n)
let equal_lists = List.equal Q.equal

let systematic_line line =
  let q = list number line in
  let u = number line in
  let most = number line in
  let kept = list int line in
  List.map int_of (systematic rationals q u most) = kept

let keep_line line =
  let lambda = number line in
  let w = number line in
  let probability = number line in
  let weight = number line in
  let row = list number line in
  let count = number line in
  Q.equal (keep_probability rationals lambda w) probability
  && Q.equal (kept_weight rationals lambda w) weight
  && Q.equal (expected_count rationals lambda row) count

let level_line line =
  let c = number line in
  let weights = list number line in
  match water_level rationals c weights, word line with
  | None, "none" -> true
  | Some (lambda, rest), first when first <> "none" ->
    Q.equal lambda (Q.of_string first) && Q.equal rest (number line)
  | _ -> false

let two_to = Z.pow (Z.of_int 2)

let decision_line line =
  let significand = integer line in
  let exponent = int line in
  let x = number line in
  let second = number line in
  let kept = int line in
  let kept_by_two = int line in
  let q =
    if exponent >= 0 then Q.of_bigint (Z.mul significand (two_to exponent))
    else Q.make significand (two_to (-exponent)) in
  let grid = Q.of_bigint (two_to 32) in
  let threshold = Q.mul q grid in
  let floor = Q.of_bigint (Z.fdiv (Q.num threshold) (Q.den threshold)) in
  Bool.to_int (keep_word rationals grid q x) = kept
  && Bool.to_int (keep_two_words rationals grid q floor x second) = kept_by_two

let word_line line =
  let seed = integer line in
  let stream = integer line in
  let b = integer line in
  let heads = integer line in
  let h = integer line in
  let i = integer line in
  let j = integer line in
  let first = integer line in
  let second = integer line in
  let bh = Z.add (Z.mul b heads) h in
  let drawn of_second = Programs.word seed (stream_of of_second stream) bh i j in
  Z.equal (drawn false) first && Z.equal (drawn true) second

let graph_line line =
  let edge line =
    let target = int line in
    let derivative = number line in
    let gate = gate line in
    make_edge (nat_of target) derivative (Option.map nat_of gate) in
  let graph = list (list edge) line in
  let multipliers = array number line in
  let target = int line in
  let derivatives = list number line in
  let twice = gate line in
  let multiplier gate = multipliers.(int_of gate) in
  equal_lists (derivatives_of rationals graph (nat_of target) multiplier) derivatives
  && Option.map int_of (path_uses_a_gate_twice graph) = twice

(* A row-major tensor as a function of four indices. *)
let tensor (_, n1, n2, n3) data a b c d =
  let place = ((int_of a * n1 + int_of b) * n2 + int_of c) * n3 + int_of d in
  data.(place)

(* Do the elements of a tensor have the values of a function of four indices? *)
let agrees (n0, n1, n2, n3) expected value =
  Array.length expected = n0 * n1 * n2 * n3
  && begin
    let all = ref true in
    Array.iteri
      (fun place x ->
        let d = place mod n3 and rest = place / n3 in
        let c = rest mod n2 and rest = rest / n2 in
        let b = rest mod n1 and a = rest / n1 in
        if not (Q.equal x (value (nat_of a) (nat_of b) (nat_of c) (nat_of d))) then all := false)
      expected;
    !all
  end

type entry = { weight : Q.t; slope : Q.t }

let backward_line line =
  let batch = int line in
  let key_heads = int line in
  let group = int line in
  let queries = int line in
  let keys = int line in
  let features = int line in
  let value_features = int line in
  let spread = many 3 (fun line -> int line = 1) line in
  let heads = key_heads * group in
  let q = array number line in
  let k = array number line in
  let v = array number line in
  let g = array number line in
  let dlse = optional (array number) line in
  let bias = optional (array number) line in
  let delta = array number line in
  let entry line =
    let j = int line in
    let weight = number line in
    let slope = number line in
    (j, { weight; slope }) in
  let rows = array (list entry) line in
  let dq = array number line in
  let dk = array number line in
  let dv = array number line in
  let dbias = optional (array number) line in
  let bias_shape =
    let axis n length = if spread.(n) then 1 else length in
    (axis 0 batch, axis 1 heads, axis 2 queries, keys) in
  let q_shape = (batch, heads, queries, features) in
  let k_shape = (batch, key_heads, keys, features) in
  let v_shape = (batch, key_heads, keys, value_features) in
  let per_row = (batch, heads, queries, 1) in
  let dlse = Option.map (fun dlse b h i -> tensor per_row dlse b h i O) dlse in
  let bias_values = Option.map (tensor bias_shape) bias in
  let problem =
    make_problem (nat_of batch) (nat_of key_heads) (nat_of group) (nat_of queries) (nat_of keys) (nat_of features)
      (nat_of value_features) Q.one None (fun _ _ -> true) (tensor q_shape q) (tensor k_shape k) (tensor v_shape v)
      (tensor (batch, heads, queries, value_features) g) dlse bias_values spread.(0) spread.(1) spread.(2) None in
  let entry_at row j =
    let place = (int_of row.r_b * heads + int_of row.r_h) * queries + int_of row.r_i in
    List.assoc_opt (int_of j) rows.(place) in
  let kept row j = entry_at row j <> None in
  let weights =
    make_weights kept (fun row j -> (Option.get (entry_at row j)).weight)
      (fun row j -> (Option.get (entry_at row j)).slope) in
  let delta_of row = tensor per_row delta row.r_b row.r_h row.r_i O in
  let gradients = backward_from_weights ring problem weights delta_of in
  let row r_b r_h r_i = { r_b; r_h; r_i } in
  agrees q_shape dq (fun b h i d -> g_dq gradients (row b h i) d)
  && agrees k_shape dk (g_dk gradients)
  && agrees v_shape dv (g_dv gradients)
  && Option.is_some dbias = Option.is_some bias
  && Option.fold ~none:true ~some:(fun dbias ->
       agrees bias_shape dbias (fun b h i j -> g_dbias gradients (row b h i) j)) dbias

let kinds =
  [ "systematic", systematic_line; "keep", keep_line; "level", level_line; "backward", backward_line;
    "graph", graph_line; "decision", decision_line; "word", word_line ]

let () =
  let path = Sys.argv.(1) and expected = int_of_string Sys.argv.(2) in
  let counts = Hashtbl.create 7 in
  let wrong = ref 0 and total = ref 0 in
  let check number text =
    let line = { words = Array.of_list (String.split_on_char ' ' text); at = 0 } in
    let kind = word line in
    let equal = (List.assoc kind kinds) line in
    if not equal then begin
      incr wrong;
      if !wrong <= 5 then Printf.printf "line %d differs: %s\n" number text
    end;
    if equal && line.at <> Array.length line.words then failwith (Printf.sprintf "line %d has more words" number);
    incr total;
    Hashtbl.replace counts kind (1 + Option.value ~default:0 (Hashtbl.find_opt counts kind)) in
  let file = open_in path in
  let rec read number =
    match input_line file with
    | text -> check number text; read (number + 1)
    | exception End_of_file -> close_in file in
  read 1;
  let count (kind, _) = Printf.sprintf "%s %d" kind (Option.value ~default:0 (Hashtbl.find_opt counts kind)) in
  Printf.printf "%d vectors, %d differ: %s\n" !total !wrong (String.concat ", " (List.map count kinds));
  let missing = List.filter (fun (kind, _) -> not (Hashtbl.mem counts kind)) kinds in
  if !wrong > 0 || !total <> expected || missing <> [] then exit 1
