(* Reverse accumulation over a directed acyclic graph, and gates on its edges.

   - `reverse_is_sum_over_paths`: the adjoint that `Graph::derivatives_of` computes is the sum over all paths of the
     product of their edges, in any commutative ring.
   - `paths_complete`: `paths from target` has every path between two nodes, and nothing else.
   - `gated_mean`: if along every path the product of the gates' multipliers has mean 1, the mean of the gated
     derivative is the derivative, under any joint law.
   - `gated_mean_independent`: so it is for independent gates m / q, if no path passes a gate twice.
   - `gate_twice`: `path_uses_a_gate_twice` finds a gate exactly when some path passes one twice.
   - `squared_gate`: a path that passes a gate twice has mean d / q in the place of d. *)

From mathcomp Require Import all_ssreflect ssralg.
From mathcomp Require Import ring.
From SusOracle Require Import Programs Law.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.

Import GRing.Theory.
Local Open Scope ring_scope.

(* A commutative ring, with anything in the place of division and comparisons: this part of the programs uses none. *)
Definition ring_arithmetic (R : comRingType) (divide : R -> R -> R) (leb ltb eqb : R -> R -> bool) : arithmetic R :=
  Arithmetic 0 1 (fun a b => a + b) (fun a b => a - b) (fun a b => a * b) divide leb ltb eqb.

Section Paths.

Variables (T : Type) (graph : seq (seq (edge T))).

(* Every edge leads from its node to a later one of the graph: what `add_edge` lets in. *)
Definition forward (n : nat) (e : edge T) : bool := (n < to e < size graph)%N.
Definition acyclic : Prop := forall n, all (forward n) (nth [::] graph n).

(* All paths of at most `fuel` edges between two nodes, each as its edges in order. *)
Fixpoint paths_within (fuel from target : nat) : seq (seq (edge T)) :=
  (if from == target then [:: [::]] else [::]) ++
  (if fuel is fuel'.+1 then
     flatten [seq [seq e :: p | p <- paths_within fuel' (to e) target] | e <- nth [::] graph from]
   else [::]).

(* `Graph::paths`: no path has more edges than there are nodes. *)
Definition paths (from target : nat) : seq (seq (edge T)) := paths_within (size graph) from target.

(* A list of edges, each of which starts where the one before ends. *)
Fixpoint is_path (from : nat) (p : seq (edge T)) (target : nat) : Prop :=
  if p is e :: p' then List.In e (nth [::] graph from) /\ is_path (to e) p' target else from = target.

(* The gates that a path passes, in order. *)
Definition gates (p : seq (edge T)) : seq nat := pmap (@gate T) p.

Lemma in_flatten (A : Type) (x : A) (ls : seq (seq A)) :
  List.In x (flatten ls) <-> exists2 l, List.In l ls & List.In x l.
Proof.
elim: ls => [|l ls IH] /=; first by split=> [[] | [l []]].
rewrite List.in_app_iff IH; split=> [[x_in | [l' l'_in x_in]] | [l' [<- | l'_in] x_in]].
- by exists l => //; left.
- by exists l' => //; right.
- by left.
- by right; exists l'.
Qed.

Lemma in_all (A : Type) (test : pred A) l x : all test l -> List.In x l -> test x.
Proof. by elim: l => [|y l IH] //= /andP[test_y test_l] [<- | /(IH test_l)]. Qed.

Lemma paths_within_spec fuel from target p :
  List.In p (paths_within fuel from target) <-> is_path from p target /\ (size p <= fuel)%N.
Proof.
elim: fuel from p => [|fuel IH] from p.
  rewrite /= cats0; case: eqP => [-> | neq]; split.
  - by case=> [<- | []].
  - by case: p => [|e p] [] //; left.
  - by case.
  - by case: p => [|e p] [].
rewrite /=; case: p => [|e p].
  split.
    case: eqP => [-> // | neq] /= /in_flatten[l /List.in_map_iff[e [<- e_in]] /List.in_map_iff[p [//]]].
  by case=> /= -> _; rewrite eqxx; left.
split.
  move=> /List.in_app_iff[|/in_flatten[l /List.in_map_iff[e' [<- e_in]] /List.in_map_iff[p' [[<- <-] /IH[p_ok size_p]]]]].
    by case: eqP => _ // [].
  by [].
move=> [[e_in p_ok] size_p]; apply/List.in_app_iff; right; apply/in_flatten.
exists [seq e :: p | p <- paths_within fuel (to e) target].
  by apply/List.in_map_iff; exists e.
by apply/List.in_map_iff; exists p; split=> //; apply/IH.
Qed.

Lemma path_length from p target : acyclic -> is_path from p target -> (size p <= size graph - from)%N.
Proof.
move=> ordered; elim: p from => [|e p IH] from //= [e_in /IH size_p].
have /andP[later inside] := in_all (ordered from) e_in.
apply: leq_ltn_trans size_p _; rewrite ltn_sub2l //; exact: ltn_trans later inside.
Qed.

(* All paths are there, and only paths. *)
Theorem paths_complete from target p : acyclic -> List.In p (paths from target) <-> is_path from p target.
Proof.
move=> ordered; rewrite /paths paths_within_spec; split=> [[] // | p_ok]; split=> //.
by apply: leq_trans (path_length ordered p_ok) _; apply: leq_subr.
Qed.

End Paths.

Section Reverse.

Variables (R : comRingType) (divide : R -> R -> R) (leb ltb eqb : R -> R -> bool).
Notation A := (ring_arithmetic divide leb ltb eqb).
Variables (graph : seq (seq (edge R))) (target : nat) (multiplier : nat -> R).
Hypothesis ordered : acyclic graph.
Hypothesis inside : (target < size graph)%N.

Notation factor := (gated A multiplier).

(* The product of the edges of a path. *)
Definition path_product (p : seq (edge R)) : R := \prod_(e <- p) factor e.

Let within fuel n : R := \sum_(p <- paths_within graph fuel n target) path_product p.

Lemma within_step fuel n :
  within fuel.+1 n = (n == target)%:R + \sum_(e <- nth [::] graph n) factor e * within fuel (to e).
Proof.
rewrite /within /= big_cat /=; congr (_ + _).
  by case: eqP => _; rewrite ?big_nil // big_seq1 /path_product big_nil.
rewrite big_flatten /= big_map; apply: eq_bigr => e _; rewrite big_map mulr_sumr.
by apply: eq_bigr => p _; rewrite /path_product big_cons.
Qed.

Lemma within0 n : within 0 n = (n == target)%:R.
Proof. by rewrite /within /= cats0; case: eqP => _; rewrite ?big_nil // big_seq1 /path_product big_nil. Qed.

Lemma eq_big_all (N : Type) (l : seq N) (test : pred N) (f g : N -> R) :
  all test l -> (forall n, test n -> f n = g n) -> \sum_(n <- l) f n = \sum_(n <- l) g n.
Proof.
move=> all_l same; elim: l all_l => [|n l IH] /=; rewrite ?big_nil // !big_cons.
by move=> /andP[/same -> /IH ->].
Qed.

Lemma within_enough fuel fuel' n :
  (size graph - n <= fuel)%N -> (size graph - n <= fuel')%N -> within fuel n = within fuel' n.
Proof.
have none m : (size graph - m <= 0)%N -> nth [::] graph m = [::].
  by rewrite leqn0 subn_eq0 => beyond; rewrite nth_default.
elim: fuel fuel' n => [|fuel IH] [|fuel'] n enough enough' //.
- by rewrite within_step none // big_nil addr0 within0.
- by rewrite within_step none // big_nil addr0 within0.
rewrite !within_step; congr (_ + _); apply: eq_big_all (ordered n) _ => e /andP[later in_graph].
have less k : (size graph - n <= k.+1)%N -> (size graph - to e <= k)%N.
  by move=> n_le; rewrite -ltnS; apply: leq_trans n_le; rewrite ltn_sub2l // (ltn_trans later).
by congr (_ * _); apply: IH; apply: less.
Qed.

Let adjoint n : R := within (size graph) n.

Lemma adjoint_step n : (n < size graph)%N ->
  adjoint n = (n == target)%:R + \sum_(e <- nth [::] graph n) factor e * adjoint (to e).
Proof.
move=> n_in; rewrite /adjoint; case size_eq: (size graph) n_in => [//|k] n_in.
rewrite within_step; congr (_ + _); apply: eq_big_all (ordered n) _ => e /andP[later in_graph].
congr (_ * _); apply: within_enough; rewrite size_eq leq_subLR ?leq_addl //.
by rewrite -add1n leq_add2r; apply: leq_ltn_trans later.
Qed.

Lemma adjoint_beyond n : (target < n)%N -> adjoint n = 0.
Proof.
rewrite /adjoint; elim: (size graph) n => [|fuel IH] n beyond.
  by rewrite within0 gtn_eqF.
rewrite within_step gtn_eqF // add0r.
transitivity (\sum_(e <- nth [::] graph n) (0 : R)); last by rewrite big1.
apply: eq_big_all (ordered n) _ => e /andP[later _].
by rewrite IH ?mulr0 // (ltn_trans beyond).
Qed.

Lemma adjoint_target : adjoint target = 1.
Proof.
rewrite adjoint_step // eqxx; transitivity (1 + \sum_(e <- nth [::] graph target) (0 : R)).
  congr (_ + _); apply: eq_big_all (ordered target) _ => e /andP[later _].
  by rewrite adjoint_beyond ?mulr0.
by rewrite big1 // addr0.
Qed.

Lemma foldl_sum (N : Type) (l : seq N) (f : N -> R) s :
  foldl (fun sum n => sum + f n) s l = s + \sum_(n <- l) f n.
Proof.
by elim: l s => [|n l IH] s /=; rewrite ?big_nil ?addr0 // IH big_cons addrA.
Qed.

Lemma accumulate_spec steps : (steps <= target)%N ->
  accumulate A graph multiplier target steps =
  [seq adjoint n | n <- iota (target - steps) (size graph - (target - steps))].
Proof.
have zeros k n : (target < n)%N -> nseq k 0 = [seq adjoint n | n <- iota n k].
  by elim: k n => [|k IH] n beyond //=; rewrite adjoint_beyond // -IH // ltnW.
elim: steps => [|steps IH] steps_le.
  rewrite /= subn0; have -> : (size graph - target = (size graph - target.+1).+1)%N by rewrite subnSK.
  rewrite /= adjoint_target; congr (_ :: _).
  exact: zeros.
set node := (target - steps.+1)%N.
have node_S : (target - steps = node.+1)%N by rewrite /node subnSK.
have node_lt : (node < target)%N by rewrite -node_S leq_subr.
have node_in : (node < size graph)%N by apply: ltn_trans inside.
rewrite /= -/node IH ?(ltnW steps_le) // node_S.
have -> : (size graph - node = (size graph - node.+1).+1)%N by rewrite subnSK.
rewrite /=; congr (_ :: _).
rewrite /adjoint_of foldl_sum add0r adjoint_step // ltn_eqF // add0r.
apply: eq_big_all (ordered node) _ => e /andP[later in_graph] /=; congr (_ * _).
have e_lt : (to e - node.+1 < size graph - node.+1)%N by rewrite ltn_sub2r // (leq_ltn_trans later).
by rewrite (nth_map 0%N) ?size_iota // nth_iota // subnKC.
Qed.

(* The adjoint of a node by reverse accumulation is the sum over its paths. *)
Theorem reverse_is_sum_over_paths from : (from < size graph)%N ->
  nth 0 (derivatives_of A graph target multiplier) from = \sum_(p <- paths graph from target) path_product p.
Proof.
move=> from_lt; rewrite /derivatives_of accumulate_spec // subnn subn0.
by rewrite (nth_map 0%N) ?size_iota // nth_iota.
Qed.

(* One adjoint for each node. *)
Theorem derivatives_of_size : size (derivatives_of A graph target multiplier) = size graph.
Proof. by rewrite /derivatives_of accumulate_spec // subnn subn0 size_map size_iota. Qed.

(* Local derivatives and gates of a path, apart. *)
Lemma path_product_gates (p : seq (edge R)) :
  path_product p = \prod_(e <- p) derivative e * \prod_(g <- gates p) multiplier g.
Proof.
rewrite /path_product; elim: p => [|e p IH]; first by rewrite !big_nil mulr1.
rewrite !big_cons {}IH /gates /= /gated /=; case: (gate e) => [g|] /=; last by rewrite mulrA.
by rewrite big_cons mulrACA.
Qed.

End Reverse.

(* The search for a gate that a path passes twice: `Graph::path_uses_a_gate_twice`. *)
Section GateTwice.

Variables (T : Type) (graph : seq (seq (edge T))).
Hypothesis ordered : acyclic graph.

Lemma gates_cons (e : edge T) p : gates (e :: p) = if gate e is Some g then g :: gates p else gates p.
Proof. by rewrite /gates /=; case: (gate e). Qed.

Lemma has_gate (g : nat) (out : seq (edge T)) :
  has (fun e => if gate e is Some g' then eqn g' g else false) out <->
  exists2 e, List.In e out & gate e = Some g.
Proof.
elim: out => [|e out IH] /=; first by split=> [|[]].
split=> [/orP[|/IH[e' e'_in e'_g]] | [e' [<- -> | e'_in e'_g]]].
- by case g_eq: (gate e) => [g'|] // /eqP <-; exists e => //; left.
- by exists e' => //; right.
- by apply/orP; left; apply/eqP.
- by apply/orP; right; apply/IH; exists e'.
Qed.

Lemma has_node (n : nat) (reached : seq nat) : has (eqn n) reached = (n \in reached).
Proof. by rewrite -has_pred1; apply: eq_has => m; rewrite /= eq_sym. Qed.

Lemma meets_gateP g n k reached : (size graph <= n + k)%N ->
  meets_gate graph g (iota n k) reached <->
  exists r p target, [/\ r \in reached, (n <= r)%N, is_path graph r p target & g \in gates p].
Proof.
elim: k n reached => [|k IH] n reached enough /=.
  split=> // -[r [p [target [_ n_le p_ok g_in]]]].
  case: p p_ok g_in => [|e p] //= [e_in _].
  by move: e_in; rewrite nth_default //; apply: leq_trans n_le; rewrite addn0 in enough.
have enough' : (size graph <= n.+1 + k)%N by rewrite addSnnS.
rewrite has_node; case: ifP => [here | absent]; last first.
  rewrite IH //; split=> [[r [p [target [r_in n_lt p_ok g_in]]]] | [r [p [target [r_in n_le p_ok g_in]]]]].
    by exists r, p, target; split=> //; apply: ltnW.
  exists r, p, target; split=> //; rewrite ltn_neqAle n_le andbT.
  by apply: contraFneq absent => ->.
case: ifP => [/has_gate[e e_in e_g] | none].
  split=> // _; exists n, [:: e], (to e); split=> //; by rewrite gates_cons e_g inE eqxx.
rewrite IH //; split=> [[r [p [target [r_in n_lt p_ok g_in]]]] | [r [p [target [r_in n_le p_ok g_in]]]]].
  move: r_in; rewrite mem_cat => /orP[r_in | r_in]; last by exists r, p, target; split=> //; apply: ltnW.
  have [e e_in e_to] : exists2 e, List.In e (nth [::] graph n) & to e = r.
    elim: (nth _ _ _) r_in => [|e out IHout] //=; rewrite inE => /predU1P[-> | /IHout[e' e'_in e'_to]].
      by exists e => //; left.
    by exists e' => //; right.
  exists n, (e :: p), target; split=> //; first by rewrite /= e_to.
  by rewrite gates_cons; case: (gate e) => [g'|] //; rewrite inE g_in orbT.
case: (eqVneq n r) => [n_eq | n_neq]; last first.
  by exists r, p, target; split=> //; rewrite ?mem_cat ?r_in ?orbT // ltn_neqAle n_neq.
case: p p_ok g_in => [|e p] // p_ok g_in; move: p_ok; rewrite -n_eq => -[e_in p_ok].
have /andP[later _] := in_all (ordered n) e_in.
exists (to e), p, target; split=> //.
- rewrite mem_cat; apply/orP; left.
  by elim: (nth _ _ _) e_in => [|e' out IHout] //= [-> | /IHout e_to]; rewrite inE ?eqxx // e_to orbT.
- move: g_in; rewrite gates_cons; case e_g: (gate e) => [g'|] //; rewrite inE => /predU1P[g_eq | //].
  by case/negP: (negbT none); apply/has_gate; exists e; rewrite // e_g g_eq.
Qed.

Lemma gate_met_againP (edges : seq (edge T)) :
  gate_met_again graph edges = None <->
  forall e g p target, List.In e edges -> gate e = Some g -> is_path graph (to e) p target -> g \notin gates p.
Proof.
elim: edges => [|e edges IH] /=; first by split.
case e_g: (gate e) => [g|]; last first.
  rewrite IH; split=> [rest e' g' p target [<- | e'_in] | all_e e' g' p target e'_in].
  - by rewrite e_g.
  - exact: rest.
  - by apply: all_e; right.
have enough : (size graph <= to e + (size graph - to e))%N by rewrite -leq_subLR.
case: ifP => [/(meets_gateP _ _ enough) | none].
  move=> [r [p [target [r_in _ p_ok g_in]]]]; split=> // all_e.
  have r_eq : r = to e by move: r_in; rewrite inE => /eqP.
  rewrite r_eq in p_ok.
  by have := all_e e g p target (or_introl erefl) e_g p_ok; rewrite g_in.
rewrite IH; split=> [rest e' g' p target [<- | e'_in] | all_e e' g' p target e'_in].
- rewrite e_g => -[<-] p_ok; apply: contraFN none => g_in; apply/(meets_gateP _ _ enough).
  by exists (to e), p, target; rewrite inE eqxx.
- exact: rest.
- by apply: all_e; right.
Qed.

Theorem gate_twice :
  path_uses_a_gate_twice graph = None <->
  forall from p target, is_path graph from p target -> uniq (gates p).
Proof.
have edge_in from e : List.In e (nth [::] graph from) -> List.In e (flatten graph).
  move=> e_in; apply/in_flatten; exists (nth [::] graph from) => //.
  elim: graph from e_in => [|out rest IH] [|from] //= e_in; [by left | by right; apply: IH e_in].
have from_of e : List.In e (flatten graph) -> exists from, List.In e (nth [::] graph from).
  elim: graph => [|out rest IH] //= /List.in_app_iff[e_in | /IH[from e_in]]; by [exists 0%N | exists from.+1].
rewrite /path_uses_a_gate_twice gate_met_againP; split=> [never from p target | once e g p target e_in e_g p_ok].
  elim: p from => [|e p IH] from // [e_in p_ok]; rewrite gates_cons.
  have p_uniq := IH _ p_ok; case e_g: (gate e) => [g|] //=; rewrite p_uniq andbT.
  exact: never (edge_in _ _ e_in) e_g p_ok.
have [from e_from] := from_of e e_in.
have := once from (e :: p) target (conj e_from p_ok).
by rewrite gates_cons e_g /= => /andP[].
Qed.

End GateTwice.

Section Gated.

Variables (F : fieldType) (divide : F -> F -> F) (leb ltb eqb : F -> F -> bool).
Notation A := (ring_arithmetic divide leb ltb eqb).
Variables (graph : seq (seq (edge F))) (from target : nat).
Hypothesis ordered : acyclic graph.
Hypothesis from_lt : (from < size graph)%N.
Hypothesis target_lt : (target < size graph)%N.

(* The derivative of `target` by `from`: `Graph::total_derivative`. *)
Definition total_derivative (multiplier : nat -> F) : F :=
  nth 0 (derivatives_of A graph target multiplier) from.

Lemma total_derivative_paths multiplier : total_derivative multiplier =
  \sum_(p <- paths graph from target) (\prod_(e <- p) derivative e * \prod_(g <- gates p) multiplier g).
Proof.
rewrite /total_derivative reverse_is_sum_over_paths //.
by apply: eq_bigr => p _; rewrite path_product_gates.
Qed.

Lemma eq_big_in (N : Type) (l : seq N) (f g : N -> F) :
  (forall n, List.In n l -> f n = g n) -> \sum_(n <- l) f n = \sum_(n <- l) g n.
Proof.
elim: l => [|n l IH] same; rewrite ?big_nil // !big_cons same ?IH //; last by left.
by move=> n' n'_in; apply: same; right.
Qed.

(* Under any joint law: the means of products along paths are all that matters. *)
Theorem gated_mean (Omega : finType) (P : Omega -> F) (multiplier : Omega -> nat -> F) :
  (forall p, is_path graph from p target -> mean P (fun o => \prod_(g <- gates p) multiplier o g) = 1) ->
  mean P (fun o => total_derivative (multiplier o)) = total_derivative (fun _ => 1).
Proof.
move=> along; rewrite total_derivative_paths.
transitivity (mean P (fun o => \sum_(p <- paths graph from target)
    (\prod_(e <- p) derivative e * \prod_(g <- gates p) multiplier o g))).
  by apply: eq_mean => o; apply: total_derivative_paths.
rewrite mean_sum; apply: eq_big_in => p /(paths_complete _ _ _ ordered) p_ok.
by rewrite meanZ along // big1_eq.
Qed.

(* Independent gates, open with probability q and then a factor 1/q. *)
Section IndependentGates.

Variables (n : nat) (q : 'I_n -> F).

Definition opened (m : {ffun 'I_n -> bool}) (g : nat) : F :=
  if insub g is Some i then (m i)%:R / q i else 1.

Theorem gated_mean_independent :
  (forall p g, is_path graph from p target -> g \in gates p -> (g < n)%N) ->
  (forall i, q i != 0) ->
  (forall p, is_path graph from p target -> uniq (gates p)) ->
  mean (independent q) (fun m => total_derivative (opened m)) = total_derivative (fun _ => 1).
Proof.
move=> numbered q_neq0 once; apply: gated_mean => p p_ok.
have in_range : all (fun g => (g < n)%N) (gates p) by apply/allP => g; apply: numbered p_ok.
pose s : seq 'I_n := pmap insub (gates p).
have s_val : map val s = gates p.
  rewrite /s; elim: (gates p) in_range => [|g l IH] //= /andP[g_lt /IH l_eq].
  by rewrite insubT /= l_eq.
have s_uniq : uniq s by rewrite -(map_inj_uniq val_inj) s_val once.
transitivity (mean (independent q) (fun m => \prod_(i <- s) ((m i)%:R / q i))).
  apply: eq_mean => m; rewrite -s_val big_map; apply: eq_bigr => i _.
  by rewrite /opened valK.
rewrite (mean_independent q (fun i b => b%:R / q i) s_uniq) big1 // => i _.
by rewrite !mul0r mulr0 addr0 mul1r mulfV.
Qed.

End IndependentGates.

End Gated.

(* Why a path must not pass a gate twice: then it has (m/q)^2, whose mean is 1/q. *)
Theorem squared_gate (F : fieldType) (q : 'I_1 -> F) : q ord0 != 0 ->
  mean (independent q) (fun m => \prod_(g <- [:: 0; 0]%N) opened q m g) = (q ord0)^-1.
Proof.
move=> q_neq0.
have := @mean_independent _ _ q [:: ord0] (fun i b => (b%:R / q i) ^+ 2) isT.
rewrite big_seq1; have -> : q ord0 * (true%:R / q ord0) ^+ 2 + (1 - q ord0) * (false%:R / q ord0) ^+ 2 = (q ord0)^-1.
  by rewrite /=; field.
move=> <-.
apply: eq_mean => m; rewrite !big_cons !big_nil mulr1 /opened.
have -> : insub 0%N = Some (ord0 : 'I_1) by rewrite -[0%N]/(val (ord0 : 'I_1)) valK.
by rewrite mulr1 expr2.
Qed.
