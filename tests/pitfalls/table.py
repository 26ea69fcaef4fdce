"""Each line of the table of pitfalls, and the tests that hold it.

D: data; S: security; P: what earlier projects did. A line has tests, by file and name below tests/, or a reason why
there is nothing here yet that could go wrong in that way.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Line:
    """What went wrong elsewhere; `tests` as `folder/file.py::test_name`."""

    what: str
    tests: tuple[str, ...] = ()
    reason: str = ""
    unbuilt: tuple[str, ...] = ()
    """Operations of S3 that the reason stands on: once one of them is built, the line needs tests."""


def covered(what: str, *tests: str) -> Line:
    return Line(what, tests=tests)


def absent(what: str, reason: str, *unbuilt: str) -> Line:
    return Line(what, reason=reason, unbuilt=unbuilt)


DATA: dict[str, Line] = {
    "D1": covered(
        "acknowledged writes lost at a power cut, and a clean-up that deleted what survived",
        "crash/test_crash_states.py::test_d01_no_acknowledged_write_is_lost_and_none_is_half_visible_after_a_cut_at_any_event",
        "system/test_write_trace.py::test_d1_every_write_is_synced_in_order_before_its_answer",
        "system/test_write_trace.py::test_d1_a_server_that_leaves_out_one_sync_is_found_out",
        "stores/test_check.py::test_pitfall_d1_nothing_is_removed_while_anything_is_damaged",
        "system/test_chaos.py::test_d1_mishaps_at_random_moments_of_mixed_load_lose_nothing_and_leave_nothing_half_done",
        "system/test_processes.py::test_all_processes_killed_at_once_lose_nothing_acknowledged",
    ),
    "D2": covered(
        "compaction on a full or crashing disk destroyed volumes",
        "crash/test_crash_states.py::test_d02_a_cut_during_compaction_and_the_dropping_of_its_sources_loses_nothing",
        "system/test_full_disk.py::test_d2_a_full_disk_takes_deletes_refuses_writes_and_recovers_without_a_restart",
        "stores/test_compaction.py::test_what_older_records_keep_from_being_dropped_is_not_rewritten_again_and_again",
        "stores/test_compaction.py::test_store_rule_03_a_compaction_cut_short_anywhere_leaves_a_whole_store",
        "stores/test_check.py::test_pitfall_d2_a_catalog_is_not_replaced_by_what_a_damaged_log_still_has",
        "engine/test_pack_rewriting.py::test_pitfall_d2_what_does_not_read_back_replaces_nothing",
    ),
    "D3": covered(
        "metadata truncated in place, then a crash",
        "stores/test_secrets_on_disk.py::test_pitfall_d3_nothing_opens_a_file_of_the_store_for_truncation",
        "format/test_storemeta.py::test_store_meta_is_replaced_as_a_whole",
    ),
    "D4": covered(
        "a short or aborted PUT published as a complete object",
        "s3/wire/test_bodies.py::test_d4_a_body_cut_short_is_never_an_object",
        "s3/wire/test_bodies.py::test_d4_an_aws_chunked_body_cut_anywhere_is_never_an_object",
        "s3/wire/test_payload_modes.py::test_d4_a_body_of_another_length_than_declared_is_refused",
        "engine/test_put_and_get.py::test_a_short_body_is_never_an_object",
    ),
    "D5": covered(
        "aws-chunked framing stored inside the object",
        "s3/wire/test_payload_modes.py::test_d5_a_put_stores_the_bytes_and_not_their_framing",
        "s3/wire/test_payload_modes.py::test_d5_parts_store_the_bytes_and_not_their_framing",
        "s3/wire/test_payload_modes.py::test_d5_broken_framing_is_refused_and_nothing_is_stored",
        "s3/wire/test_payload_modes.py::test_d5_swapped_signed_chunks_are_refused",
    ),
    "D6": covered(
        "Content-Encoding: aws-chunked kept and replayed",
        "s3/wire/test_payload_modes.py::test_d6_aws_chunked_is_no_content_encoding",
    ),
    "D7": covered(
        "the backend failed in the middle of a GET, and the client saw a clean, short body",
        "http/test_responses.py::test_d7_a_file_that_has_shrunk_resets_the_connection",
        "http/test_responses.py::test_d7_a_stream_that_fails_after_its_first_byte_resets_the_connection",
        "http/test_server.py::test_d7_a_failing_stream_is_seen_as_a_reset_by_a_real_client",
        "system/test_scrub.py::test_a_file_cut_short_below_a_read_breaks_the_read_and_costs_no_worker",
        "system/test_failing_disk.py::test_d7_an_io_error_under_a_mapped_read_costs_one_object_and_no_worker",
        "system/test_failing_disk.py::test_an_io_error_under_a_mapping_is_an_error_that_names_the_byte",
        "engine/test_library.py::test_d7_damage_on_the_disk_is_found_in_both_modes",
        "engine/test_reading.py::test_a_damaged_block_is_never_handed_out",
        "s3/wire/test_error_codes.py::test_a_lost_data_file_is_an_internal_error_and_never_a_short_body",
    ),
    "D8": covered(
        "wrong bytes from features that were combined",
        "engine/test_layers.py::test_ranges_of_layered_objects_are_those_of_the_clients_bytes",
        "engine/test_layers.py::test_layered_parts_copies_and_copied_ranges_keep_their_bytes",
        "engine/test_encryption.py::test_ranges_of_sealed_objects_are_those_of_the_clients_bytes",
        "engine/test_encryption.py::test_sealed_parts_are_joined_and_copied_in_and_out",
        "engine/test_kms.py::test_every_layer_goes_with_keys_of_providers",
        "s3/wire/test_encryption.py::test_parts_and_copies_are_sealed_under_the_keys_they_are_given",
        "rio/test_ranges.py::test_every_range_is_what_was_given",
    ),
    "D9": covered(
        "an encrypted object was plaintext on disk",
        "engine/test_encryption.py::test_no_plaintext_lies_anywhere_and_sealed_objects_survive_a_restart",
        "engine/test_kms.py::test_pitfall_d9_no_plaintext_lies_anywhere_and_kms_objects_survive_a_restart",
        "s3/wire/test_kms.py::test_pitfall_d9_no_marker_lies_on_the_disk_or_in_the_log",
        "rio/test_damage.py::test_no_key_or_plaintext_stands_in_a_recipe_or_in_sealed_bytes",
        "stores/test_catalog_memory.py::test_no_page_of_the_catalog_holds_memory_of_the_process",
    ),
    "D10": covered(
        "versioned buckets lost objects, deleted keys came back, a stale null marker hid a new object",
        "stores/test_committer_versions_model.py::TestVersionsAgainstDictionary",
        "model/test_versions_model.py::TestVersions",
        "model/test_faulty_model.py::test_d10_a_fault_at_any_call_or_await_leaves_every_request_whole_or_undone",
        "s3/wire/test_operations.py::test_suspended_versioning_replaces_the_null_version_alone",
        "engine/test_faults.py::test_a_put_cancelled_anywhere_is_whole_or_nothing",
    ),
    "D11": covered(
        "Abort racing Complete: listed, HEAD right, GET 404",
        "engine/test_races.py::test_d11_complete_abort_and_a_part_leave_one_legal_outcome",
        "stores/test_committer_uploads.py::test_pitfall_d11_abort_and_complete_leave_one_outcome",
    ),
    "D12": covered(
        "garbage collection removed live data",
        "engine/test_races.py::test_d12_a_copy_and_the_removal_of_its_source_in_either_order",
        "engine/test_dedup_faults.py::test_d12_a_chunk_that_goes_between_look_and_pin_is_written_again",
        "engine/test_chunk_races.py::test_pitfall_d12_a_put_between_the_collectors_look_and_its_deed_loses_nothing",
        "engine/test_chunk_races.py::test_pitfall_d12_a_reader_that_comes_between_the_look_and_the_deed_reads_to_the_end",
        "engine/test_pack_rewriting.py::test_pitfall_d12_chunks_that_die_between_the_copy_and_the_move_stay_dead",
        "crash/test_crash_states.py::test_d12_chunks_that_bodies_share_outlive_a_cut_at_any_event_and_no_body",
        "stores/test_committer_epochs.py::test_store_rule_14_zero_is_final",
        "stores/test_garbage.py::test_store_rule_15_a_reader_that_appears_after_the_rows_were_read_is_seen",
        "stores/test_garbage.py::test_store_rule_10_an_upload_in_flight_is_never_an_orphan",
        "system/test_races.py::test_an_object_overwritten_during_a_slow_get_arrives_whole",
    ),
    "D13": covered(
        "ETags from time, inode and size collided: lost updates",
        "stores/test_committer_puts.py::test_pitfall_d13_of_many_equal_replacements_one_wins",
        "engine/test_library.py::test_d14_increments_by_compare_and_swap_lose_none",
    ),
    "D14": covered(
        "conditional writes ignored or wrong",
        "s3/wire/test_conditions.py::test_d14_conditional_writes",
        "s3/wire/test_conditions.py::test_d14_conditional_deletes",
        "s3/wire/test_conditions.py::test_d14_a_delete_marker_does_not_stand_in_the_way_of_if_none_match",
        "system/test_races.py::test_d14_of_64_racers_to_create_a_key_exactly_one_wins",
        "system/test_races.py::test_d14_a_chain_of_if_match_loses_no_increment",
    ),
    "D15": covered(
        "missing or damaged metadata made objects invisible",
        "crash/test_bit_flips.py::test_d15_a_flipped_bit_in_any_kind_of_file_is_found_and_never_served",
        "crash/test_bit_flips.py::test_d15_a_flipped_bit_in_the_page_that_names_the_tables_is_no_empty_store",
        "crash/test_every_bit.py::test_d15_a_flipped_bit_is_detected_and_with_parity_repaired",
        "engine/test_mended_reading.py::test_d15_one_bad_byte_anywhere_in_a_short_stripe_is_restored_by_a_get",
        "system/test_rot.py::test_d15_flips_under_reads_are_found_by_a_get_or_one_scrub_and_served_by_none",
        "system/test_rot.py::test_d15_flips_in_pages_of_the_catalog_are_found_and_a_rebuild_gives_everything_back",
        "stores/test_catalog_pages.py::test_d15_a_flipped_bit_in_a_page_is_told_or_every_row_is_still_found",
        "stores/test_catalog_order.py::test_d15_a_list_that_is_led_back_is_damage_and_not_its_end",
        "stores/test_flipped_keys.py::test_d15_a_flipped_key_is_damage_or_hides_nothing_from_lists_and_look_ups",
        "stores/test_unreadable_stripe.py::test_every_page_that_cannot_be_read_is_restored_as_far_as_parity_covers_it",
        "stores/test_blobs_damage.py::test_pitfall_d15_any_flip_or_loss_in_a_sidecar_is_damage_and_never_absence",
        "format/test_sidecar.py::test_pitfall_d15_a_flip_of_any_byte_is_found",
    ),
    "D16": absent(
        "healing did not restore what had been tiered",
        "every object lies whole in its own store: nothing moves one elsewhere, and RestoreObject answers 501",
        "RestoreObject",
        "PutBucketIntelligentTieringConfiguration",
    ),
    "D17": absent(
        "lifecycle rules deleted everything",
        "no rule can be set: PutBucketLifecycleConfiguration answers 501 and stores nothing; only requests and an "
        "operator's commands delete",
        "PutBucketLifecycleConfiguration",
    ),
    "D18": covered(
        "the index corrupt after an unclean stop; keys of 480 bytes and more refused",
        "system/test_rebuild.py::test_d18_a_catalog_rebuilt_from_the_log_tells_the_same",
        "format/test_keys.py::test_store_rule_24_no_row_key_is_longer_than_lmdb_allows",
        "engine/test_lists.py::test_d20_the_whole_corpus_is_listed_in_byte_order",
        "system/test_processes.py::test_a_killed_process_comes_back_and_nothing_acknowledged_is_lost",
    ),
    "D19": covered(
        "overwrites and repeated parts leaked space for ever",
        "stores/test_blobs_local.py::test_pitfall_d19_a_crash_after_any_call_of_a_put_leaves_what_the_sweep_removes",
        "engine/test_put_and_get.py::test_overwriting_frees_the_old_blob",
        "engine/test_multipart.py::test_a_replaced_part_frees_its_blob",
    ),
    "D20": covered(
        "keys rewritten on the way",
        "s3/wire/test_keys_and_pages.py::test_d20_keys_are_read_back_in_path_style",
        "s3/wire/test_keys_and_pages.py::test_d20_keys_are_read_back_in_virtual_host_style",
        "s3/wire/test_keys_and_pages.py::test_d20_keys_are_read_back_by_presigned_urls",
        "s3/wire/test_keys_and_pages.py::test_d20_keys_are_copied_and_deleted_alone",
        "engine/test_keys.py::test_d20_put_get_copy_and_delete_over_the_key_corpus",
        "engine/test_keys.py::test_d20_versions_and_uploads_over_the_key_corpus",
    ),
    "D21": covered(
        "pages that skip, repeat or never end",
        "s3/wire/test_keys_and_pages.py::test_d21_pages_hold_each_name_once_in_order",
        "s3/wire/test_keys_and_pages.py::test_d21_parts_and_uploads_are_paged_without_loss",
        "engine/test_lists.py::test_d21_every_page_size_over_the_key_corpus",
        "engine/test_lists.py::test_d21_pages_of_versions_join_to_the_whole",
        "engine/test_multipart.py::test_d21_pages_of_parts_join_to_the_whole",
        "engine/test_multipart.py::test_d21_pages_of_uploads_join_to_the_whole",
        "engine/test_buckets_and_identities.py::test_d21_pages_of_buckets_join_to_the_whole",
    ),
    "D22": covered(
        "directories made and removed at once made PUT fail",
        "engine/test_races.py::test_d22_many_tasks_under_shared_prefixes_never_fail",
    ),
    "D23": covered(
        "cleaning stale uploads damaged the finished object",
        "engine/test_multipart.py::test_complete_takes_the_parts_it_names_and_frees_the_others",
        "stores/test_garbage.py::test_store_rule_16_members_of_dead_sets_are_freed_step_by_step",
        "engine/test_races.py::test_d11_complete_abort_and_a_part_leave_one_legal_outcome",
    ),
    "D24": covered(
        "a repeated Complete answered NoSuchUpload after success",
        "s3/wire/test_operations.py::test_d24_a_repeated_complete_answers_the_same",
        "s3/wire/test_kept_alive.py::test_d24_blanks_come_while_it_works_and_the_connection_lives_on",
        "system/test_kept_alive.py::test_d24_a_complete_is_kept_alive_while_the_committer_hangs",
        "stores/test_committer_uploads.py::test_pitfall_d24_a_complete_is_answered_again_while_its_version_exists",
    ),
}

SECURITY: dict[str, Line] = {
    "S1": covered(
        "paths that skipped the signature",
        "s3/wire/test_security.py::test_s1_a_wrong_secret_is_refused_on_every_route_and_nothing_is_written",
        "access/test_sigv4_refusals.py::test_s1_a_wrong_secret_is_refused_in_every_payload_mode_and_form",
    ),
    "S2": covered(
        "client headers became internal metadata",
        "s3/wire/test_security.py::test_s2_no_client_header_becomes_internal_metadata",
        "s3/test_headers.py::test_headers_of_what_is_not_built_are_refused_by_name",
    ),
    "S3": covered(
        "default keys, anonymous access",
        "s3/wire/test_security.py::test_s3_anonymous_requests_are_refused_on_every_route",
        "system/test_mini.py::test_s3_anonymous_requests_are_refused_everywhere",
        "system/test_mini.py::test_s3_a_wrong_secret_is_refused",
    ),
    "S4": covered(
        "traversal by key, bucket or upload id",
        "s3/wire/test_keys_and_pages.py::test_s4_a_traversal_is_a_key_like_any_other",
        "s3/wire/test_keys_and_pages.py::test_s4_an_upload_id_is_never_a_path",
        "s3/wire/test_keys_and_pages.py::test_s4_a_bucket_name_outside_the_rules_is_refused",
        "stores/test_blobs_damage.py::test_evil_things_in_the_place_of_a_blob_are_damage",
    ),
    "S5": covered(
        "copies and versions skipped the source's authorization; headers added to presigned URLs",
        "s3/wire/test_security.py::test_s5_another_user_is_refused_on_every_route_of_a_bucket",
        "s3/wire/test_security.py::test_s5_a_copy_needs_the_right_to_read_its_source",
        "s3/wire/test_security.py::test_s5_headers_that_are_not_signed_cannot_be_added",
        "s3/wire/test_security.py::test_s5_a_restricted_key_stays_in_its_bucket",
    ),
    "S6": covered(
        "POST policies not enforced",
        "s3/wire/test_security.py::test_s6_each_condition_of_a_form_is_enforced",
        "s3/wire/test_security.py::test_s6_a_field_given_twice_does_not_get_past_the_policy",
        "s3/wire/test_security.py::test_s6_the_policy_is_what_was_signed",
        "access/test_post_forms.py::test_s6_each_condition_violated_once",
    ),
    "S7": covered(
        "object lock bypassed; Deny ignored",
        "stores/test_committer_locks.py::test_a_locked_version_is_not_removed_before_its_time",
        "stores/test_committer_locks.py::test_retention_is_shortened_only_by_bypass_and_never_in_compliance",
        "stores/test_committer_locks.py::test_store_rule_19_a_clock_that_jumped_opens_no_lock",
        "access/test_bucket_policy.py::test_s7_an_explicit_deny_beats_every_allow_in_any_order",
    ),
    "S8": absent(
        "escalation by imported identities",
        "no command or request imports or exports identities, and there are no service accounts; keys are made over "
        "the admin socket alone (S12), which answers root and the daemon's own user",
    ),
    "S9": covered(
        "policy engines that headers could spoof",
        "s3/wire/test_security.py::test_s9_a_policy_allows_and_denies_by_user_action_and_prefix",
        "s3/wire/test_security.py::test_s9_a_policy_that_is_not_understood_is_refused_not_stored",
        "access/test_bucket_policy.py::test_s9_two_independent_evaluators_agree",
    ),
    "S10": covered(
        "secrets in logs, metrics and errors",
        "s3/wire/test_security.py::test_s10_no_secret_is_logged_at_debug_level",
        "s3/wire/test_secrecy.py::test_s10_a_secret_in_the_log_is_found_in_any_form",
        "system/test_isolation.py::test_s10_a_talkative_daemon_tells_no_secret_anywhere",
        "system/test_isolation.py::test_s10_no_secret_stands_in_a_command_line_an_environment_or_a_readable_file",
        "system/test_mini.py::test_s10_neither_output_nor_metrics_tell_a_secret",
        "access/test_sigv4_refusals.py::test_s10_no_repr_shows_a_secret_or_a_signing_key",
        "telemetry/test_logs.py::test_signatures_and_secrets_are_hidden",
        "stores/test_secrets_on_disk.py::test_store_rule_21_neither_master_key_nor_secret_keys_are_in_the_store",
    ),
    "S11": covered(
        "line ends in stored headers, CORS with credentials",
        "s3/wire/test_security.py::test_s11_a_stored_header_cannot_hold_a_line_end",
        "s3/wire/test_security.py::test_s11_a_form_cannot_store_a_line_end",
        "s3/wire/test_security.py::test_s11_a_cors_rule_cannot_store_a_line_end",
        "s3/wire/test_conditions.py::test_s11_an_override_cannot_add_a_header",
        "documents/test_results_rendered.py::test_s11_named_origins_are_echoed_with_credentials_and_any_origin_without",
    ),
    "S12": covered(
        "diagnostics for everybody",
        "admin/test_admin_server.py::test_s12_a_user_who_is_neither_root_nor_the_daemon_is_refused",
        "system/test_mini.py::test_secrets_are_for_their_owner_only",
    ),
    "S13": absent(
        "requests forged through webhook URLs",
        "no address comes from a client: notifications and replication answer 501; all that is ever asked over a "
        "network is a key service at the address of the operator's configuration, redirects not followed",
        "PutBucketNotificationConfiguration",
        "PutBucketReplication",
        "PutBucketLogging",
    ),
    "S14": covered(
        "fallback keys, repeated nonces",
        "crypto/test_masterkey.py::test_pitfall_s14_what_is_no_key_is_refused_naming_the_file",
        "crypto/test_sealing.py::test_pitfall_s14_nonces_do_not_repeat",
        "engine/test_library.py::test_store_rule_21_no_master_key_is_ever_invented_for_an_existing_store",
    ),
    "S15": covered(
        "compares that tell by their time, no clock check, bombs in parsers",
        "access/test_sigv4_refusals.py::test_s15_signatures_are_compared_in_constant_time_only",
        "s3/wire/test_security.py::test_s15_clocks_further_apart_than_15_minutes_are_refused",
        "s3/wire/test_security.py::test_s15_clocks_within_15_minutes_are_taken",
        "documents/test_requests_parsed.py::test_s15_malformed_documents",
        "documents/test_requests_parsed.py::test_s15_more_elements_than_any_document_needs_are_refused_early",
        "access/test_post_forms.py::test_s15_a_field_without_end_is_refused_before_it_is_kept",
        "http/test_timeouts.py::test_a_head_in_single_bytes_is_cut_after_the_head_timeout",
        "http/test_timeouts.py::test_a_body_below_the_minimum_rate_is_refused_though_it_never_stalls",
        "http/test_smuggling.py::test_framing_that_can_be_read_in_two_ways_is_refused",
        "rio/test_damage.py::test_a_zstd_frame_is_refused_by_what_it_claims",
        "fuzz/test_parsers.py::test_mutated_input_is_read_or_refused_as_documented",
        "fuzz/test_parsers.py::test_s15_an_administration_request_that_is_no_text_or_nested_too_deeply_is_refused",
        "fuzz/test_parsers.py::test_s15_stored_and_sent_structures_nested_too_deeply_are_damage_and_not_the_end_of_a_process",
        "http/test_connection_fuzz.py::test_s15_pipelines_in_any_shape_are_answered_exactly_and_damaged_ones_end_well",
    ),
}

EARLIER_PROJECTS: dict[str, Line] = {
    "P1": covered(
        "systems that no request ever reached",
        "s3/wire/test_operations.py::test_what_is_not_built_answers_501_with_its_name_and_changes_nothing",
        "s3/test_headers.py::test_headers_of_what_is_not_built_are_refused_by_name",
        "engine/test_layers.py::test_settings_that_mean_nothing_are_refused",
    ),
    "P2": covered(
        "no authentication; signatures over a fixed time",
        "access/test_sigv4_vectors.py::test_get_object_with_a_range",
        "access/test_sigv4_vectors.py::test_presigned_get",
        "s3/wire/test_security.py::test_s3_anonymous_requests_are_refused_on_every_route",
    ),
    "P3": covered(
        "ids and keys that became paths",
        "s3/wire/test_keys_and_pages.py::test_s4_an_upload_id_is_never_a_path",
        "s3/wire/test_keys_and_pages.py::test_s4_a_traversal_is_a_key_like_any_other",
        "s3/wire/test_keys_and_pages.py::test_versions_keys_keep_their_own_histories",
    ),
    "P4": covered(
        "ranges, copies and checksums of compressed bytes",
        "engine/test_layers.py::test_ranges_of_layered_objects_are_those_of_the_clients_bytes",
        "engine/test_layers.py::test_layered_parts_copies_and_copied_ranges_keep_their_bytes",
    ),
    "P5": covered(
        "parts lost by concurrent uploads, Complete in place",
        "engine/test_races.py::test_d11_complete_abort_and_a_part_leave_one_legal_outcome",
        "system/test_races.py::test_an_object_overwritten_during_a_slow_get_arrives_whole",
        "engine/test_encryption.py::test_sealed_parts_are_joined_and_copied_in_and_out",
    ),
    "P6": covered(
        "nothing synced, renames across file systems",
        "system/test_write_trace.py::test_d1_every_write_is_synced_in_order_before_its_answer",
        "system/test_mini.py::test_nothing_is_written_outside_the_directory",
    ),
    "P7": covered(
        "whole bodies in memory, digests not verified",
        "system/test_memory.py::test_a_large_object_and_idle_connections_do_not_take_memory",
        "s3/wire/test_bodies.py::test_content_md5_is_verified",
        "s3/wire/test_bodies.py::test_checksums_in_headers_are_verified_stored_and_returned_when_asked_for",
    ),
    "P8": covered(
        "deduplication without counts, cuts that do not move with the content",
        "kernels/test_cdc.py::test_p8_cuts_are_found_not_forced_and_survive_an_insertion",
        "kernels/test_cdc.py::test_p8_runs_become_equal_chunks_of_the_greatest_size",
        "engine/test_dedup_faults.py::test_p8_one_of_two_identical_objects_outlives_the_other",
        "stores/test_committer_chunks.py::"
        "test_pitfall_p8_two_equal_bodies_share_chunks_and_the_death_of_one_leaves_the_other",
        "stores/test_check_chunks.py::test_pitfall_p8_a_wrong_count_is_named_and_set_to_what_pins_the_chunk",
        "stores/test_committer_epochs.py::test_store_rule_14_zero_is_final",
    ),
    "P9": absent(
        "an audit chain that could be broken unseen",
        "no audit trail is written, so none can be taken for whole; PutBucketLogging answers 501",
        "PutBucketLogging",
    ),
    "P10": absent(
        "compliance reports with hard-coded passes",
        "no command or request reports on compliance; what `rs3d check` and `rs3d scrub` say is counted anew each time",
    ),
    "P11": absent(
        "a learning cache that learned nothing",
        "no cache here learns or predicts: what is remembered is bounded, and forgotten by fixed rules; what adapts is "
        "which codec compresses a body, by an average of what each gained lately (rio/test_plans.py)",
    ),
    "P12": covered(
        "master keys in plain text, replaced when unreadable",
        "crypto/test_masterkey.py::test_pitfall_p12_a_missing_or_public_key_is_refused_and_none_is_invented",
        "engine/test_library.py::test_store_rule_21_no_master_key_is_ever_invented_for_an_existing_store",
    ),
    "P13": covered(
        "lists that walk the whole bucket, prefixes repeated",
        "engine/test_lists.py::test_a_common_prefix_costs_a_seek_not_a_scan",
        "s3/wire/test_keys_and_pages.py::test_d21_pages_hold_each_name_once_in_order",
    ),
    "P14": covered(
        "frames that could be moved, repeated or cut off",
        "rio/test_damage.py::test_sealed_frames_do_not_open_elsewhere",
        "rio/test_damage.py::test_every_cut_is_detected",
        "rio/test_layered.py::test_segments_moved_dropped_repeated_or_foreign_are_refused",
        "rio/test_ranges.py::test_every_range_is_what_was_given",
    ),
    "P15": covered(
        "errors that became empty output, unbounded decompression",
        "rio/test_streams.py::test_a_writer_that_failed_stays_failed",
        "rio/test_damage.py::test_a_frame_may_not_give_more_than_was_declared",
        "rio/test_damage.py::test_a_zstd_frame_is_refused_by_what_it_claims",
    ),
}

LINES: dict[str, Line] = {**DATA, **SECURITY, **EARLIER_PROJECTS}
