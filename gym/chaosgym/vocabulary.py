"""The words that public names are made of, in such numbers that nothing can be memorised.

A component's name is a stem of its vocabulary (`billing`), shaped by the habits of a made-up company
(`billing-api`, `nova-billing`, `billingd`). No word hints at a fault: the same lists serve what breaks
and what does not. How they are combined is in `chaosgym.drawing`.
"""

from __future__ import annotations

__all__ = [
    "DATACENTRES",
    "DOMAINS",
    "ENVIRONMENTS",
    "GENERIC_NOUNS",
    "HTTP_PORTS",
    "KNOBS",
    "NAMESPACES",
    "NAME_STEMS",
    "NOUNS",
    "PORTS",
    "PREFIXES",
    "RELEASES",
    "ROUTE_BASES",
    "ROUTE_TAILS",
    "STREAM_ENDINGS",
    "STREAM_SUBJECTS",
    "SUFFIXES",
    "TABLE_PREFIXES",
    "TABLE_WORDS",
]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


NAME_STEMS: dict[str, tuple[str, ...]] = {
    "gateway": _words(
        "gateway frontdoor edge-router ingress portal apigw frontier entrypoint webfront storefront bff doorway public-api "
        "shop-web switchboard concierge"
    ),
    "catalog": _words(
        "catalog catalogue products product-info item-master listings merch assortment goods shelf pim sku-registry offerings "
        "wares article collection"
    ),
    "search": _words("search finder lookup discovery query-engine index explorer seeker navigator browse scout sift"),
    "cart": _words("cart basket bag trolley shopping-bag cartstore wishcart picklist tray selection hamper tote"),
    "orders": _words(
        "orders order-flow purchase checkout order-mgmt ordering order-desk fulfilment orderbook sales booking placement commerce-core"
    ),
    "payments": _words(
        "payments payment billing charge ledger paygate acquirer settlement wallet cashier invoicing tender collect money-mover "
        "paydesk tariff"
    ),
    "inventory": _words(
        "inventory stock warehouse stockroom supply depot availability onhand allotment storehouse stockkeeper goods-count "
        "shelf-count logistics-stock"
    ),
    "recommendations": _words(
        "recommendations suggest recs related personalizer similar ranking affinity tastes curator picks foryou upsell inspire"
    ),
    "notifications": _words(
        "notifications notifier mailer courier messenger dispatch postman herald outbox confirmations letterbox announcer push- sender"
    ),
    "users": _words("users accounts profile members customers identity people directory crm account-info subscriber patrons"),
    "auth": _words("auth login session iam token-issuer signin sso gatekeeper passport credentials-svc access keyring"),
    "shipping": _words("shipping delivery freight parcel carrier shipment logistics dispatching waybill tracking transport consign"),
    "pricing": _words("pricing prices quote rates tariffs discount promo price-book valuation rebate markdown coupon"),
    "reviews": _words("reviews ratings feedback comments opinions testimonials stars voices critique sentiment"),
    "media": _words("media images assets thumbs gallery picture-store content imaging renditions photos"),
    "content": _words("content cms pages articles editorial publishing stories blocks banners layouts"),
    "analytics": _words("analytics events-in tracking-api insights beacon collector clickstream telemetry-in stats measure"),
    "reports": _words("reports reporting statements exports summaries digest extracts bookkeeping rollups dashboards"),
    "documents": _words("documents files archive attachments paperwork records filing vault dossier uploads"),
    "messaging": _words("messaging chat inbox conversations threads talk mailbox relay dialogue rooms"),
    "scheduling": _words("scheduling calendar appointments slots planner timetable agenda rota bookings reservations"),
    "accounts": _words(
        "accounts account-core balances holdings acct-book deposits funds custody nominee purses savings current-account tally-accounts"
    ),
    "transfers": _words(
        "transfers transfer-flow remittance wires sendmoney payouts payment-order giro clearing disburse conveyance remit money-out"
    ),
    "ledger": _words(
        "ledger general-ledger journal-entries bookkeeper double-entry postings daybook subledger accounting gl-core bookings-core tally"
    ),
    "scoring": _words(
        "scoring risk risk-engine screening vetting sentinel trust assurance profiler safeguard scorecard appraiser decisions"
    ),
    "statements": _words(
        "statements account-history passbook ledger-view turnover activity-log monthly-summary transactions-view extracts abstracts"
        " movements overview"
    ),
    "uploads": _words("uploads intake ingest dropzone inlet submissions importer media-in landing handover receiving upstreamer"),
    "transcoding": _words(
        "transcoder encoder codec-farm converter reformatter mediaconvert muxer videoworks packager format-shift renderer downmix"
    ),
    "thumbnails": _words(
        "thumbnailer stills previews poster-maker frames snapshots covers sprite-maker keyframes miniatures vignettes icons"
    ),
    "publishing": _words(
        "publisher releaser go-live syndication distributor press issuer presenter airing announcements showrunner airings"
    ),
    "playback": _words("playback player streaming watch viewer theatre playout screening-room manifest vod cinema listening-room"),
    "entitlements": _words("entitlements rights licences plans grants allowance membership subscriptions permits tiers benefits packages"),
    "presence": _words("presence online whoson roster attendance status-board lastseen whereabouts nearby headcount here-now beacons"),
    "rooms": _words("rooms channels spaces lobby circles salons parlours clubs gatherings forums guilds assemblies"),
    "devices": _words("devices device-registry handsets terminals things installs equipment gadgets clients-registry units fleet sensors"),
    "history": _words(
        "history chronicle transcripts annals logbook scrollback record-keeper timeline archive-store memories diary almanac"
    ),
    "moderation": _words(
        "moderation content-filter steward civility curation language-review etiquette housekeeping mediator warden decency tone-review"
    ),
    "indexing": _words(
        "indexer search-feed corpus term-writer harvester crawler tagger cataloguer inverted-index librarian word-index gleaner"
    ),
    "worker": _words("worker jobs processor background tasks runner pipeline handler batch consumer executor backoffice"),
    "queue": _words("queue broker bus streams eventbus mailqueue conveyor relay-bus topics"),
    "database": _words(
        "postgres pg maindb primary-db core-db appdb datastore sql-main relational rdbms orders-pg master-data pgsql dbhost"
    ),
    "cache": _words("redis cache kv memstore fastkv hotstore session-kv lookaside redis-main keyval ephemeral quickstore inmem"),
    "service": _words(
        "atlas beacon-hub cobalt delta ember falcon granite harbor iris juniper kestrel lumen meridian nimbus onyx prism quartz "
        "raven sable tundra"
    ),
}
"""Vocabulary of a component -> stems of its name."""

SUFFIXES: dict[str, tuple[str, ...]] = {
    "http": _words("-api -svc -service -server -app -core -backend -rest -http -web -node -main -unit -endpoint d -hub -prime -module"),
    "worker": _words("-worker -consumer -runner -processor -agent -daemon -job -tasks -handler d -loop -sub -listener"),
    "store": _words("-primary -main -01 -a -db -store -node1 -cluster -m1 -rw -prod -x1 -master-0 -live -central"),
}
"""What follows the stem, by how a component runs."""

PREFIXES = _words(
    "nova acme zenith blue north pixel orbit vela lotus cedar mango koi tango solar ivy onda riva luma terra polar maple echo fjord"
    " mint opal sage birch comet dune flint"
)
"""Teams and brands that precede a stem."""

ENVIRONMENTS = _words("prod live prd main stable production")
NAMESPACES = _words("shop retail commerce core platform apps backend web default services storefront market team-a team-b public tenant-1")
DATACENTRES = _words("ams1 fra2 iad3 sfo1 dub2 sin1 syd4 lhr1 eu-west us-east ap-south nyc2 par1 hel1 gru1 nrt3 yyz2 waw1")
DOMAINS = (
    "{namespace}.svc.cluster.local",
    "{namespace}.svc",
    "{environment}.internal",
    "{datacentre}.{environment}.internal",
    "{datacentre}.example.net",
    "{environment}.{prefix}.example.com",
    "{namespace}.{prefix}.example.org",
    "int.{prefix}.example.net",
    "{datacentre}.corp.example",
    "{namespace}.mesh",
    "lan",
    "{environment}.local",
    "service.consul",
    "{datacentre}.{prefix}.internal",
)
"""What follows a component's name in its host name; one for a whole company."""

HTTP_PORTS = (
    *(int(port) for port in _words("8000 8080 8081 8088 8090 8443 3000 3001 4000 5000 5001 7000 7070 9000 9080 9090")),
    *range(8100, 8400),
    *range(9100, 9400),
)
PORTS: dict[str, tuple[int, ...]] = {
    "postgres": (5432, 5433, 5434, 6432, 5440, 15432, *range(25432, 25482)),
    "redis": (6379, 6380, 6381, 6390, 7379, 16379, *range(26400, 26450)),
}
"""Public ports of datastores."""

RELEASES: dict[str, tuple[str, ...]] = {
    "postgres": _words("13.14 13.16 14.11 14.13 14.15 15.6 15.8 15.10 16.2 16.3 16.4 16.6 17.0 17.2"),
    "redis": _words("6.2.6 6.2.7 6.2.12 6.2.14 7.0.5 7.0.11 7.0.15 7.2.3 7.2.4 7.2.6 7.4.0 7.4.1"),
}
"""Public versions of datastores."""

ROUTE_BASES = ("", "/api", "/v1", "/v2", "/api/v1", "/api/v2", "/api/v3", "/rest", "/internal", "/svc", "/rpc", "/public/v1", "/x", "/app")
ROUTE_TAILS = ("", "", "", "/summary", "/details", "/view", "/full", "/data", "/current", "/info", "/doc")

NOUNS: dict[str, tuple[str, ...]] = {
    "home": _words("home start landing feed front welcome overview shop-window frontpage discover"),
    "browse": _words("browse feed listing explore shelves aisle showcase collections overview grid"),
    "search": _words("search find lookup results query matches hits suggest-items finder seek"),
    "product": _words("product item article detail good sku offer listing-item pdp wares"),
    "get": _words("item entry record product detail article object by-id one card"),
    "list": _words("items entries list all page products index collection batch-of set"),
    "add": _words("add basket-items line put-in lines append-item bag-items cart-lines pick include"),
    "view": _words("view show open content current my-basket state snapshot read display"),
    "checkout": _words("checkout purchase order place buy complete-order submit finalize confirm pay-now"),
    "place": _words("orders place-order new-order purchases submissions bookings checkouts create-order sales intake"),
    "charge": _words("charges payments transactions debits captures collect invoices settlements authorizations tenders"),
    "check": _words("availability stock-level onhand check units quantity free-units levels in-stock supply"),
    "reserve": _words("reservations holds allocate allotments claims reserve set-aside assign commitments deduct"),
    "suggest": _words("suggestions related similar picks for-you recommended also-liked neighbours ranked inspirations"),
    "login": _words("login signin session token access enter authenticate grant logon open-session"),
    "profile": _words("profile account me member customer person card settings identity user"),
    "create": _words("create new register submit entries add-one intake open begin drafts"),
    "update": _words("update change edit amend revise modify patch-one adjust refresh save"),
    "send": _words("send deliver messages dispatches outgoing post notify transmit mails relay"),
    "quote": _words("quote price rate estimate tariff offers cost totals amounts valuation"),
    "report": _words("report statement summary export digest stats overview figures totals extract"),
    "upload": _words("upload files attachments documents store put blobs media assets import"),
    "balance": _words("balance funds position standing available holdings saldo credit-line account-total cash"),
    "transfer": _words("transfers send-money remittances payouts wire move-funds pay-someone disburse remit handover"),
    "statement": _words("statement activity movements account-history turnover passbook extracts ledger-view entries summary"),
    "book": _words("bookings postings entries journal write-up record-entry double-entries ledger-lines enter register"),
    "score": _words("score rating assess appraise screen vet evaluate verdicts decision trust-level"),
    "status": _words("status progress state stage standing condition whereabouts follow track phase"),
    "play": _words("play stream watch view-now playback screening manifest listen start-playing session"),
    "connect": _words("connect attach join hello handshake sign-on link-up enrol greet open-line"),
    "presence": _words("presence online here ping beat alive-at lastseen seen check-in roster"),
    "post": _words("post messages say publish submit write utterances talk share entries"),
    "members": _words("members roster people participants attendees crew listeners followers guests lineup"),
    "history": _words("history timeline scrollback past transcript archive log-book earlier previous recap"),
}
"""Name of an endpoint -> words for its route."""

GENERIC_NOUNS = _words(
    "accounts activities agreements allocations areas baskets batches branches bundles campaigns cards categories channels claims clients"
    " codes contacts contracts countries customers devices drafts editions entries events families favourites fields folders forms"
    " grants groups guides holders hubs images invoices items journals keys labels layers leads letters lines links lists locations"
    " lots markets members menus messages models notes notices offers options orders packages pages parcels parts partners passes"
    " people periods persons pins places plans points policies posts prices profiles programs projects properties quotas quotes rates"
    " ratings receipts records regions releases renewals requests resources rewards rooms routes rules samples schedules scopes"
    " sections segments series sessions sets shares shops sites slots spaces stages states stations steps stores streams subjects"
    " suppliers tables tags targets tasks teams terms themes tickets titles topics tours trades trips types units users values variants"
    " vendors views visits vouchers wallets zones"
)
"""For endpoints, tables and streams that no list knows."""

TABLE_PREFIXES = ("", "", "", "", "tbl_", "app_", "shop_", "core_", "t_", "dim_", "fact_", "prod_", "main_", "x_", "biz_", "web_")
TABLE_WORDS: dict[str, tuple[str, ...]] = {
    "products": _words(
        "products items articles skus catalog_entries goods product_master listings offers merchandise product_info item_catalog"
    ),
    "stock": _words(
        "stock stock_levels inventory_units availability onhand quantities warehouse_stock bins stock_items stock_counts supply_levels"
    ),
    "orders": _words(
        "orders purchases order_headers sales_orders checkouts customer_orders order_records bookings purchase_orders order_log"
    ),
    "payments": _words("payments transactions charges ledger_entries captures payment_records settlements invoices receipts money_moves"),
    "messages": _words("messages outbox notifications mail_log deliveries sent_items dispatches letters push_log confirmations"),
    "users": _words("users accounts members customers people profiles identities logins patrons subscribers"),
    "carts": _words("carts baskets bags cart_lines basket_items trolleys selections saved_items picklists"),
    "reviews": _words("reviews ratings comments opinions feedback_entries stars review_texts votes"),
    "shipments": _words("shipments parcels deliveries consignments waybills tracking_entries packages freight_items"),
    "prices": _words("prices price_list rates tariffs quotes discounts price_points promo_prices"),
    "documents": _words("documents files records attachments archive_items pages file_entries papers"),
    "events": _words("events activity_log happenings timeline audit_entries actions occurrences journal"),
    "accounts": _words("accounts balances holdings acct_book deposits funds purses account_master account_list savings"),
    "bookings": _words("bookings postings ledger_lines journal_lines double_entries gl_entries book_entries daybook entry_log"),
    "customers": _words("customers clients account_holders parties payers persons client_master contacts people_registry"),
    "videos": _words("videos clips media_items titles films recordings assets programmes footage media_master"),
    "renditions": _words("renditions variants encodings output_files formats derived_files versions_made tracks packages_made"),
    "plans": _words("plans subscriptions memberships tiers licences packages_sold grants_given allowances benefits"),
    "devices": _words("devices handsets terminals things device_list installs equipment client_units gadgets sensors"),
    "members": _words("members memberships roster participants room_members attendees group_people crew joinings"),
    "chat": _words("chat chat_lines utterances talk_log conversation_items posts thread_items dialogue transcript_lines"),
    "terms": _words("terms word_index index_entries search_terms tokens_seen lexicon term_stats keywords"),
    "deliveries": _words("deliveries receipts dispatch_log hand_overs sent_log push_log outgoing_items drop_offs"),
    "bookmarks": _words("bookmarks favourites saved_links pins wishlist_items shortlists keepers collections"),
}
"""Name of a table -> words for its public name."""

STREAM_SUBJECTS = _words(
    "orders purchases sales checkout events shop commerce order-events business fulfilment confirmations customer trade activity"
    " postings transfers media uploads chat updates readings items changes jobs steps intake"
)
STREAM_ENDINGS = _words(".created :new -events .v1 :stream -out .placed :queue -topic .confirmed :log -feed .accepted :inbox")

KNOBS: dict[str, tuple[str, ...]] = {
    "log.level": _words("info notice INFO default"),
    "log.sampling": _words("1.0 0.9 0.75 0.5"),
    "metrics.interval": _words("5s 10s 15s 30s"),
    "banner.text": _words("spring-sale summer-sale welcome-back none free-shipping"),
    "feature.new_header": _words("on off"),
    "feature.dark_theme": _words("on off beta"),
    "locale.default": _words("en-US en-GB de-DE fr-FR es-ES"),
    "currency.default": _words("EUR USD GBP SEK"),
    "page.size": _words("20 24 25 30 48 50"),
    "cache.ttl_hint": _words("30 45 60 90"),
    "http.server_header": _words("on off minimal"),
    "http.keepalive_hint": _words("60 65 75 90"),
    "experiment.bucket": _words("a b c control"),
    "experiment.checkout_copy": _words("v1 v2 v3"),
    "support.email": _words("help@example.com care@example.com support@example.com"),
    "theme.palette": _words("classic fresh autumn winter"),
    "sort.default": _words("newest price relevance popular"),
    "tracing.tags": _words("basic extended none"),
    "tax.display": _words("net gross both"),
    "images.quality": _words("75 80 85 90"),
}
"""Settings that change nothing that matters -> their values."""
