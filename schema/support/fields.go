package support

// data lists what is supported of each kind that may be declared. Fields that
// only a server sets (status, uid, resourceVersion, …) are not Evenkeel's to
// support or refuse: readers drop them. Some fields are here only with the
// value that Kubernetes takes by default, which is what Evenkeel does.
var data = map[string]string{
	"namespaces": `
		metadata @meta
	`,
	"nodes": `
		metadata @meta
		spec.taints[].key !system
		spec.taints[].value
		spec.taints[].effect
		spec.unschedulable
	`,
	"serviceaccounts": `
		metadata @meta
		imagePullSecrets[].name
		automountServiceAccountToken
	`,
	"roles": `
		metadata @meta
		rules[] @rule
	`,
	"clusterroles": `
		metadata @meta
		rules[] @rule
		rules[].nonResourceURLs[]
	`,
	"rolebindings": `
		metadata @meta
		subjects[] @subject
		roleRef @roleRef
	`,
	"clusterrolebindings": `
		metadata @meta
		subjects[] @subject
		roleRef @roleRef
	`,
	"storageclasses": `
		metadata @meta
		provisioner = kubernetes.io/no-provisioner
		reclaimPolicy
		volumeBindingMode
		allowVolumeExpansion = false
	`,
	"persistentvolumes": `
		metadata @meta
		spec.capacity.storage
		spec.accessModes[] = ReadWriteOnce ReadOnlyMany ReadWriteMany
		spec.persistentVolumeReclaimPolicy = Retain Delete
		spec.storageClassName
		spec.volumeMode = Filesystem
		spec.hostPath.path
		spec.hostPath.type
		spec.local.path
		spec.nfs @nfs
		spec.mountOptions[]
		spec.nodeAffinity.required.nodeSelectorTerms[] @nodeSelectorTerm
		spec.claimRef.apiVersion
		spec.claimRef.kind
		spec.claimRef.namespace
		spec.claimRef.name
	`,
	"persistentvolumeclaims": `
		metadata @meta
		spec @claimSpec
	`,
	"configmaps": `
		metadata @meta
		data.*
		binaryData.*
		immutable
	`,
	"secrets": `
		metadata @meta
		data.*
		stringData.*
		type
		immutable
	`,
	"services": `
		metadata @meta
		spec.ports[].name
		spec.ports[].protocol = TCP UDP
		spec.ports[].port
		spec.ports[].targetPort
		spec.ports[].nodePort
		spec.ports[].appProtocol
		spec.selector.*
		spec.type = ClusterIP NodePort ExternalName
		spec.clusterIP !ipv6
		spec.clusterIPs[] !ipv6
		spec.externalName
		spec.sessionAffinity
		spec.sessionAffinityConfig.clientIP.timeoutSeconds
		spec.publishNotReadyAddresses
		spec.ipFamilyPolicy = SingleStack
		spec.ipFamilies[] = IPv4
		spec.internalTrafficPolicy = Cluster
		spec.externalTrafficPolicy = Cluster
	`,
	"endpoints": `
		metadata @meta
		subsets[].addresses[] @endpointAddress
		subsets[].notReadyAddresses[] @endpointAddress
		subsets[].ports[] @endpointPort
	`,
	"endpointslices": `
		metadata @meta
		addressType = IPv4
		endpoints[].addresses[] !ipv6
		endpoints[].conditions.ready
		endpoints[].conditions.serving
		endpoints[].conditions.terminating
		endpoints[].hostname
		endpoints[].targetRef **
		endpoints[].nodeName
		endpoints[].zone
		ports[] @endpointPort
	`,
	"pods": `
		metadata @meta
		spec @podSpec
	`,
	"replicationcontrollers": `
		metadata @meta
		spec.replicas
		spec.minReadySeconds
		spec.selector.*
		spec.template.metadata @meta
		spec.template.spec @podSpec
	`,
}

// instead has the fields that cannot be declared, on Kubernetes neither.
var instead = map[string]string{
	"ephemeralContainers": "remove it, and add the container to the pod that runs: kubectl debug",
}

// fragments are parts that several kinds share.
var fragments = map[string]string{
	"meta": `
		name
		namespace
		labels.*
		annotations.*
	`,
	"claimSpec": `
		accessModes[] = ReadWriteOnce ReadOnlyMany ReadWriteMany
		resources.requests.storage
		selector @labelSelector
		storageClassName
		volumeName
		volumeMode = Filesystem
	`,
	"nfs": `
		server
		path
		readOnly
	`,
	"rule": `
		verbs[]
		apiGroups[]
		resources[]
		resourceNames[]
	`,
	"subject": `
		kind
		apiGroup
		name
		namespace
	`,
	"roleRef": `
		apiGroup
		kind
		name
	`,
	"nodeSelectorTerm": `
		matchExpressions[] @requirement
		matchFields[] @requirement
	`,
	"podAffinity": `
		requiredDuringSchedulingIgnoredDuringExecution[] @podAffinityTerm
		preferredDuringSchedulingIgnoredDuringExecution[].weight
		preferredDuringSchedulingIgnoredDuringExecution[].podAffinityTerm @podAffinityTerm
	`,
	"podAffinityTerm": `
		labelSelector @labelSelector
		namespaces[]
		namespaceSelector @labelSelector
		topologyKey
		matchLabelKeys[]
		mismatchLabelKeys[]
	`,
	"labelSelector": `
		matchLabels.*
		matchExpressions[] @requirement
	`,
	"requirement": `
		key
		operator
		values[]
	`,
	"endpointAddress": `
		ip !ipv6
		hostname
		nodeName
		targetRef **
	`,
	"endpointPort": `
		name
		port
		protocol = TCP UDP
		appProtocol
	`,
	"podSpec": `
		containers[] @container
		initContainers[] @container
		volumes[].name
		volumes[].emptyDir.medium = - Memory
		volumes[].emptyDir.sizeLimit
		volumes[].hostPath.path
		volumes[].hostPath.type
		volumes[].configMap.name
		volumes[].configMap @projection
		volumes[].secret.secretName
		volumes[].secret @projection
		volumes[].downwardAPI.items[] @downwardFile
		volumes[].downwardAPI.defaultMode
		volumes[].projected.defaultMode
		volumes[].projected.sources[].configMap @projected
		volumes[].projected.sources[].secret @projected
		volumes[].projected.sources[].downwardAPI.items[] @downwardFile
		volumes[].projected.sources[].serviceAccountToken.audience
		volumes[].projected.sources[].serviceAccountToken.expirationSeconds
		volumes[].projected.sources[].serviceAccountToken.path
		volumes[].persistentVolumeClaim.claimName
		volumes[].persistentVolumeClaim.readOnly
		volumes[].ephemeral.volumeClaimTemplate.metadata.labels.*
		volumes[].ephemeral.volumeClaimTemplate.metadata.annotations.*
		volumes[].ephemeral.volumeClaimTemplate.spec @claimSpec
		volumes[].image.reference
		volumes[].image.pullPolicy
		volumes[].nfs @nfs
		restartPolicy
		terminationGracePeriodSeconds
		activeDeadlineSeconds
		readinessGates[].conditionType
		resources.requests.cpu
		resources.requests.memory
		resources.limits.cpu
		resources.limits.memory
		nodeSelector.*
		affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[] @nodeSelectorTerm
		affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[].weight
		affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[].preference @nodeSelectorTerm
		affinity.podAffinity @podAffinity
		affinity.podAntiAffinity @podAffinity
		nodeName
		tolerations[].key
		tolerations[].operator
		tolerations[].value
		tolerations[].effect
		tolerations[].tolerationSeconds
		imagePullSecrets[].name
		hostNetwork
		hostname
		hostnameOverride
		setHostnameAsFQDN
		subdomain
		hostAliases[].ip
		hostAliases[].hostnames[]
		dnsPolicy
		dnsConfig.nameservers[]
		dnsConfig.searches[]
		dnsConfig.options[].name
		dnsConfig.options[].value
		enableServiceLinks
		automountServiceAccountToken
		serviceAccountName
		serviceAccount
		schedulerName = default-scheduler
		hostPID
		hostIPC
		hostUsers
		shareProcessNamespace
		priority = 0
		preemptionPolicy = PreemptLowerPriority
		os.name = linux
		securityContext.runAsUser
		securityContext.runAsGroup
		securityContext.runAsNonRoot
		securityContext.supplementalGroups[]
		securityContext.supplementalGroupsPolicy
		securityContext.fsGroup
		securityContext.fsGroupChangePolicy
		securityContext.seccompProfile @seccompProfile
		securityContext.appArmorProfile @appArmorProfile
		securityContext.seLinuxOptions @seLinuxOptions
		securityContext.seLinuxChangePolicy
		securityContext.sysctls[] @sysctl
	`,
	"sysctl": `
		name = kernel.shm_rmid_forced net.ipv4.ip_local_port_range net.ipv4.tcp_syncookies net.ipv4.ping_group_range net.ipv4.ip_unprivileged_port_start net.ipv4.ip_local_reserved_ports net.ipv4.tcp_keepalive_time net.ipv4.tcp_fin_timeout net.ipv4.tcp_keepalive_intvl net.ipv4.tcp_keepalive_probes net.ipv4.tcp_rmem net.ipv4.tcp_wmem net.ipv4.tcp_slow_start_after_idle net.ipv4.tcp_notsent_lowat
		value
	`,
	"seccompProfile": `
		type
		localhostProfile
	`,
	"appArmorProfile": `
		type
		localhostProfile
	`,
	"seLinuxOptions": `
		user
		role
		type
		level
	`,
	"downwardFile": `
		path
		fieldRef @fieldRef
		resourceFieldRef @resourceFieldRef
		mode
	`,
	"fieldRef": `
		apiVersion
		fieldPath
	`,
	"resourceFieldRef": `
		containerName
		resource = limits.cpu limits.memory requests.cpu requests.memory
		divisor
	`,
	"projected": `
		name
		items[].key
		items[].path
		items[].mode
		optional
	`,
	"projection": `
		items[].key
		items[].path
		items[].mode
		defaultMode
		optional
	`,
	"container": `
		name
		image
		imagePullPolicy
		command[]
		args[]
		workingDir
		stdin
		stdinOnce
		tty
		ports[].name
		ports[].containerPort
		ports[].hostPort
		ports[].hostIP !ipv6
		ports[].protocol = TCP UDP
		env[].name
		env[].value
		env[].valueFrom.configMapKeyRef @keyRef
		env[].valueFrom.secretKeyRef @keyRef
		env[].valueFrom.fieldRef @fieldRef
		env[].valueFrom.resourceFieldRef @resourceFieldRef
		env[].valueFrom.fileKeyRef.volumeName
		env[].valueFrom.fileKeyRef.path
		env[].valueFrom.fileKeyRef.key
		env[].valueFrom.fileKeyRef.optional
		envFrom[].prefix
		envFrom[].configMapRef.name
		envFrom[].configMapRef.optional
		envFrom[].secretRef.name
		envFrom[].secretRef.optional
		resources.requests.cpu
		resources.requests.memory
		resources.requests.ephemeral-storage
		resources.limits.cpu
		resources.limits.memory
		resources.limits.ephemeral-storage
		resizePolicy[].resourceName
		resizePolicy[].restartPolicy
		volumeMounts[].name
		volumeMounts[].mountPath
		volumeMounts[].subPath
		volumeMounts[].subPathExpr
		volumeMounts[].readOnly
		volumeMounts[].recursiveReadOnly
		volumeMounts[].mountPropagation
		restartPolicy
		restartPolicyRules[].action
		restartPolicyRules[].exitCodes.operator
		restartPolicyRules[].exitCodes.values[]
		livenessProbe @probe
		readinessProbe @probe
		startupProbe @probe
		terminationMessagePath
		terminationMessagePolicy
		lifecycle.postStart @handler
		lifecycle.preStop @handler
		lifecycle.stopSignal
		securityContext.runAsUser
		securityContext.runAsGroup
		securityContext.runAsNonRoot
		securityContext.privileged
		securityContext.readOnlyRootFilesystem
		securityContext.allowPrivilegeEscalation
		securityContext.capabilities.add[]
		securityContext.capabilities.drop[]
		securityContext.seccompProfile @seccompProfile
		securityContext.appArmorProfile @appArmorProfile
		securityContext.seLinuxOptions @seLinuxOptions
		securityContext.procMount
	`,
	"keyRef": `
		name
		key
		optional
	`,
	"handler": `
		exec.command[]
		httpGet @httpGet
		sleep.seconds
	`,
	"httpGet": `
		path
		port
		host
		scheme
		httpHeaders[].name
		httpHeaders[].value
	`,
	"probe": `
		exec.command[]
		httpGet @httpGet
		tcpSocket.port
		tcpSocket.host
		grpc.port
		grpc.service
		initialDelaySeconds
		timeoutSeconds
		periodSeconds
		successThreshold
		failureThreshold
		terminationGracePeriodSeconds
	`,
}
